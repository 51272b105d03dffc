"""What watches a trial, and stops it where it is not worth going on with."""

import math
from pathlib import Path
from typing import Any, final

import lightning as L

from unvanish.command.errors import PrunedError
from unvanish.gradients import GradientMonitor
from unvanish.gradients.judge.pruning import MOMENTS, hopeless

#: Beside the verdict: of trials that are not ill, those that come to their end before one is stopped for being worse,
#: and the share of its steps before which it is not.
STARTUP, WARMUP = 4, 0.25


@final
class VerdictPruner(L.Callback):
    """Stops a trial whose first ten or hundred steps show what waiting does not cure."""

    def __init__(self) -> None:
        self._looked = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the monitor has written, once a moment."""
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        (monitor,) = (callback for callback in callbacks if isinstance(callback, GradientMonitor))
        if self._looked < len(MOMENTS) and monitor.report.steps >= MOMENTS[self._looked]:
            self._looked += 1
            if why := hopeless(monitor.report):
                raise PrunedError(f"pruned after {trainer.global_step} steps: {why}")


@final
class MedianPruner(L.Callback):
    """Stops a trial that is worse than the median of those before it at the same step, as Optuna's has it.

    Args:
        folder: The study's.
        number: The trial's.
        metric: The metric of a validation.
        startup: Trials that come to their end before any is stopped.
        warmup: Share of a trial's steps before which it is not stopped.
    """

    def __init__(self, folder: Path, number: int, metric: str, startup: int = 5, warmup: float = 0.0) -> None:
        self.folder, self.number, self.metric = folder, number, metric
        self.startup, self.warmup = startup, warmup
        self._trial: Any = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the score, and ask."""
        score = trainer.callback_metrics.get(f"val/{self.metric}")
        if trainer.sanity_checking or score is None:
            return
        if self._trial is None:
            import optuna

            from unvanish.command.search.study import open_study

            steps = trainer.estimated_stepping_batches
            first = int(self.warmup * steps) if steps < math.inf else 0
            study = open_study(self.folder, pruner=optuna.pruners.MedianPruner(self.startup, first))
            self._trial = optuna.trial.Trial(study, study.trials[self.number]._trial_id)
        self._trial.report(float(score), trainer.global_step)
        if self._trial.should_prune():
            raise PrunedError(f"pruned after {trainer.global_step} steps: below the median of the trials before it")
