"""The recorder as a Lightning callback."""

import logging
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import lightning as L
import torch.distributed as dist
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from unvanish.gradients.chain import ChainProbe
from unvanish.gradients.events import EventWriter, log10
from unvanish.gradients.layers import first_tensor
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.report import Report, verdict_on
from unvanish.gradients.verdict import Verdict

log = logging.getLogger(__name__)


@final
class GradientMonitor(L.Callback):
    """Shows where the gradients of a training run go: ``Trainer(callbacks=[GradientMonitor()])``.

    It reads the backward passes of the run itself (see ``GradientRecorder``), before gradients are clipped and after,
    and writes to its TensorBoard loggers a curve for each layer and quantity (see ``Record``), histograms, a chart with
    all layers, a heat map of delta by depth and step, and the verdict. After ten steps, and at the end, it prints that;
    ``gradient_report.json`` and ``.png`` beside the logs keep it. What cannot be measured is said once.

    Args:
        every_n_steps: Steps between two at which everything is measured; at the others only the norms of weight
            gradients are.
        histogram_every_n_steps: Steps between two histograms; a multiple of ``every_n_steps``.
        flush_every_n_steps: Steps whose values stay on the device before they are written.
        verbose: Whether to print the verdicts.
    """

    def __init__(
        self,
        every_n_steps: int = 20,
        histogram_every_n_steps: int = 100,
        flush_every_n_steps: int = 100,
        verbose: bool = True,
    ) -> None:
        if flush_every_n_steps < 1:
            raise ValueError(f"flush_every_n_steps is {flush_every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self.histogram_every_n_steps = histogram_every_n_steps
        self.flush_every_n_steps = flush_every_n_steps
        self.verbose = verbose
        self.report = Report()
        self.recorder: GradientRecorder | None = None
        self._hooks = ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the layers."""
        self.report = Report()
        try:
            recorder = GradientRecorder(
                pl_module,
                self.every_n_steps,
                first_steps=self.report.window,
                histogram_every_n_steps=self.histogram_every_n_steps,
                process_group=dist.group.WORLD if dist.is_initialized() else None,
            )
        except ValueError as error:
            if self.every_n_steps < 1 or self.histogram_every_n_steps < 1:
                raise
            log.warning("gradients are not recorded: %s", error)
            return
        self.recorder = self._hooks.enter_context(recorder)
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        self._writers: list[EventWriter] = []
        self._probe: ChainProbe | None = None
        self._batch_size: int | None = None
        self._next_picture = self.report.window
        self._said: set[str] = set()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the optimizers, and the first pass for what theory has to say."""
        recorder = self.recorder
        if recorder is None:
            return
        for optimizer in trainer.optimizers:
            handle = optimizer.register_step_post_hook(lambda *_: recorder.after_step())
            self._hooks.callback(handle.remove)
        self._probe = ChainProbe(pl_module)
        self._hooks.callback(self._probe.close)
        steps = trainer.estimated_stepping_batches
        total = int(steps) if 0 < steps < math.inf else None
        if trainer.is_global_zero:
            loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
            self._writers = [EventWriter(logger.experiment, total) for logger in loggers]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See how many samples there are, for the gradient noise scale."""
        tensor = first_tensor(batch)
        if self.recorder is not None and tensor is not None and tensor.dim():
            self._batch_size = max(self._batch_size or 0, len(tensor))

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Read the gradients: accumulated, and not yet clipped."""
        if self.recorder is None:
            return
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.recorder.before_step(
            trainer.global_step,
            parameters,
            loss_scale=1.0 if scaler is None else scaler._scale,
            # Fused optimizers take the scale out themselves, later.
            unscaled=scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False),
            batch_size=self._batch_size,
        )
        self._batch_size = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what has been recorded, now and then, and judge the first steps as soon as there are enough."""
        if self.recorder is None:
            return
        missing = self.report.window - self.report.steps
        if len(self.recorder) >= (self.flush_every_n_steps if missing <= 0 else min(missing, self.flush_every_n_steps)):
            self._flush(trainer)
            if missing > 0 and self.report.steps >= self.report.window:
                self._tell(trainer, pl_module)
            elif self.report.steps >= self._next_picture:
                self._draw()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the rest and the report."""
        if self.recorder is not None:
            self._flush(trainer)
            self._tell(trainer, pl_module)
            self._close(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what there is: a run that has died is the one whose gradients are asked for."""
        self._close(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the layers, also where there was nothing left to train."""
        self._close(trainer)

    def _flush(self, trainer: L.Trainer) -> None:
        assert self.recorder is not None
        records = self.recorder.flush()
        if self._probe is not None:
            self.report.chain, self._probe = self._probe.chain(), None
        # A gradient scaler skips the steps that overflow, on purpose; they are written, but no reason for a verdict.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.report.add(record for record in records if scaler is None or record.is_finite)
        self.report.notes = self.recorder.notes
        for note in self.report.notes:
            if note not in self._said:
                self._said.add(note)
                if trainer.is_global_zero:
                    log.warning("%s", note)
        for writer in self._writers:
            for record in records:
                writer.write(record, self._summary(record))

    def _summary(self, record: Record) -> dict[str, float]:
        """What sums a step up."""
        if "delta_norm" not in record.values:
            return {}
        verdict = verdict_on(record)
        summary = {
            "first_over_last": verdict.first_over_last,
            "first_over_last_log10": log10(verdict.first_over_last),
            "decay_per_layer": verdict.factor_per_layer,
        }
        if "noise_signal" in record.totals:
            summary["noise_scale"] = self.report.noise_scale
        return {f"gradient/{name}": value for name, value in summary.items()}

    def _close(self, trainer: L.Trainer) -> None:
        if self.recorder is None:
            return
        self._flush(trainer)
        self._hooks.close()
        self.recorder = None
        if trainer.is_global_zero and self.report.steps:
            self.report.save(self._folder / "gradient_report.json")

    def _tell(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the verdict, and put it beside the curves."""
        if not self.report.steps:
            return
        verdict = self.report.end
        if self.verbose:
            pl_module.print(f"gradients after {self.report.steps} steps: {verdict}")
        for writer in self._writers:
            writer.text("gradient/verdict", _markdown(verdict, self.report.steps), self.report.last_step)
        self._draw()

    def _draw(self) -> None:
        # TensorBoard keeps ten images: four times as many steps from one to the next are enough for 2.6 million.
        self._next_picture = 4 * self.report.steps
        if self.report.has_deltas:
            for writer in self._writers:
                writer.image("gradient/delta_heat_map", self.report.heat_map(), self.report.last_step)


def _markdown(verdict: Verdict, steps: int) -> str:
    fixes = f"\n\n**Try** {', '.join(verdict.fixes)}." if verdict.fixes else ""
    return f"**{verdict.status}** after {steps} steps: {verdict.evidence}.\n\n**Why:** {verdict.cause}{fixes}"
