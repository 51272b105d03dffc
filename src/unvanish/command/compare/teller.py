"""Tells how far a run has come, for its live line."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import lightning as L

from unvanish.command.compare.task import Step

_TOLD_EVERY = 0.2


@final
class Teller(L.Callback):
    """Tells the step a few times a second.

    Args:
        folder: The run's.
        tell: Is told.
    """

    def __init__(self, folder: Path, tell: Callable[[Step], Any]) -> None:
        self._folder, self._tell = folder, tell
        self._told = 0.0
        self._total: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know the end."""
        steps = trainer.estimated_stepping_batches
        self._total = int(steps) if 0 < steps < float("inf") else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell."""
        if time.monotonic() - self._told >= _TOLD_EVERY:
            self._told = time.monotonic()
            with suppress(OSError):  # whoever was told is gone
                self._tell(Step(self._folder, trainer.global_step, self._total))
