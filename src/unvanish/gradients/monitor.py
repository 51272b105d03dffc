"""The recorder as a Lightning callback."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from unvanish.gradients.events import write_record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.report import Report


@final
class GradientMonitor(L.Callback):
    """Shows where the gradients of a training run go: ``Trainer(callbacks=[GradientMonitor()])``.

    It reads the backward passes of the run itself (see ``GradientRecorder``), before gradients are clipped, and writes
    to its TensorBoard loggers ``gradient_norm/<layer>``, ``delta_rms/<layer>``, ``update_ratio/<layer>``,
    ``gradient/first_over_last`` and ``gradient/decay_per_layer``. After ten steps, and at the end, it prints a verdict;
    ``gradient_report.json`` beside the logs keeps it. Under DDP delta is that of rank 0's share of the batch.

    Args:
        every_n_steps: Steps between two measurements of the update ratio; everything else is measured at every step.
        flush_every_n_steps: Steps whose values stay on the device before they are written.
        verbose: Whether to print the verdicts.
    """

    def __init__(self, every_n_steps: int = 10, flush_every_n_steps: int = 100, verbose: bool = True) -> None:
        if flush_every_n_steps < 1:
            raise ValueError(f"flush_every_n_steps is {flush_every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self.flush_every_n_steps = flush_every_n_steps
        self.verbose = verbose
        self.report = Report()
        self._hooks = ExitStack()
        self._recording = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the layers."""
        self.report = Report()
        self.recorder = self._hooks.enter_context(GradientRecorder(pl_module, self.every_n_steps))
        self._recording = True
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the optimizers."""
        for optimizer in trainer.optimizers:
            handle = optimizer.register_step_post_hook(lambda *_: self.recorder.after_step())
            self._hooks.callback(handle.remove)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Read the gradients: accumulated, and not yet clipped."""
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        # Fused optimizers take the scale out themselves, later.
        unscaled = scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False)
        self.recorder.before_step(trainer.global_step, parameters, 1.0 if scaler is None else scaler._scale, unscaled)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what has been recorded, now and then, and judge the first steps as soon as there are enough."""
        missing = self.report.window - self.report.steps
        if len(self.recorder) >= (self.flush_every_n_steps if missing <= 0 else min(missing, self.flush_every_n_steps)):
            self._flush(trainer)
            if missing > 0 and self.report.steps >= self.report.window:
                self._print(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the rest and the report."""
        self._close(trainer)
        self._print(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what there is: a run that has died is the one whose gradients are asked for."""
        self._close(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the layers, also where there was nothing left to train."""
        self._close(trainer)

    def _flush(self, trainer: L.Trainer) -> None:
        records = self.recorder.flush()
        # A gradient scaler skips the steps that overflow, on purpose; they are written, but no reason for a verdict.
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.report.add(record for record in records if scaler is None or record.is_finite)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    for record in records:
                        write_record(logger.experiment, record)

    def _close(self, trainer: L.Trainer) -> None:
        if not self._recording:
            return
        self._recording = False
        self._hooks.close()
        self._flush(trainer)
        if trainer.is_global_zero and self.report.steps:
            self.report.save(self._folder / "gradient_report.json")

    def _print(self, pl_module: L.LightningModule) -> None:
        if self.verbose and self.report.steps:
            pl_module.print(f"gradients after {self.report.steps} steps: {self.report.end}")
