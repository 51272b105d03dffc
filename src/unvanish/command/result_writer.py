"""Writes a run's result.json, with the learning curve in it."""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import lightning as L

from unvanish.command.errors import FailedError, PrunedError, StoppedError, WrongInputError, one_line
from unvanish.command.processes import is_first
from unvanish.command.result import FAILED, FINISHED, PRUNED, STOPPED, Result
from unvanish.gradients import GradientMonitor


@final
class ResultWriter(L.Callback):
    """Writes result.json when a run begins, and again when it ends, in whichever way it ends.

    A resumed run continues the learning curve and the clock of its checkpoint.

    Args:
        folder: The run's folder.
        result: The part of the result that is known before the first step.
        monitor: The gradient monitor, for its report.
    """

    def __init__(self, folder: Path, result: Result, monitor: GradientMonitor) -> None:
        self.folder, self.result, self.monitor = folder, result, monitor
        self.points: list[dict[str, float]] = []
        self._trainer: L.Trainer | None = None
        self._before, self._start = 0.0, math.nan
        self._has_begun = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the trainer, even if nothing is left to train."""
        self._trainer = trainer

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()
        self._has_begun = True
        self._save()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point to the learning curve, except for Lightning's sanity check before training."""
        if not trainer.sanity_checking and not math.isnan(self._start):
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "seconds": self._seconds}
            self.points.append({**place, **values})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._before, self._start = self._seconds, math.nan

    def state_dict(self) -> dict[str, Any]:
        """The learning curve and the seconds of training, for a checkpoint."""
        return {"points": list(self.points), "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curve and the clock of a checkpoint."""
        self.points, self._before = list(state_dict["points"]), state_dict["seconds"]

    def finished(self, tested: Mapping[str, float]) -> Result:
        """Write and return the result of a run that has finished, with its metrics on the test split."""
        outcome = self._outcome()
        self.result = replace(outcome, state=FINISHED, scores={**outcome.scores, **tested})
        self._save()
        return self.result

    def ended_by(self, error: BaseException) -> None:
        """Write what is known of a run that had begun and was stopped or has failed, if its folder is still there."""
        is_ours = isinstance(error, FailedError | StoppedError | WrongInputError)
        what = one_line(error) if is_ours else f"{type(error).__name__}: {one_line(error)}"
        state = STOPPED if isinstance(error, StoppedError) else PRUNED if isinstance(error, PrunedError) else FAILED
        self.result = replace(self._outcome(), state=state, error=what)
        if self._has_begun and self.folder.is_dir():
            with suppress(OSError):  # a full disk may be why it has failed
                self._save()

    @property
    def _seconds(self) -> float:
        return self._before + (0.0 if math.isnan(self._start) else time.perf_counter() - self._start)

    def _outcome(self) -> Result:
        trainer = self._trainer
        if trainer is None:
            return self.result
        steps, best = trainer.global_step, self._best()
        batches = trainer.num_training_batches
        of_epoch = -(-batches // trainer.accumulate_grad_batches) if batches < math.inf else math.nan
        return replace(
            self.result.with_gradients(self.monitor.report),
            scores={name: value for name, value in best.items() if name.startswith("val/")},
            best_epoch=best.get("epoch", math.nan),
            best_step=best.get("step", math.nan),
            steps=steps,
            seconds=self._seconds,
            seconds_per_epoch=self._seconds * of_epoch / (steps or math.nan),
            curve=self.points,
        )

    def _best(self) -> dict[str, float]:
        """The point of the curve at the best epoch, of equally good ones the latest; empty if there is none."""
        key, sign = f"val/{self.result.metric}", 1 if self.result.mode == "max" else -1
        finite = [p for p in self.points if math.isfinite(p.get(key, math.nan)) and math.isfinite(p.get("val/loss", 0))]
        return max(reversed(finite), key=lambda point: sign * point[key], default={})

    def _save(self) -> None:
        if is_first():
            self.result.save(self.folder)
