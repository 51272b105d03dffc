"""What is done at every step for nothing, taken away while a run trains."""

import os
from contextlib import ExitStack
from typing import Any, final

import lightning as L
import torch

#: Lightning calls these at every batch, of every callback and of the network, each within a context manager of its own.
_AT_EACH_BATCH = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)
_ASKS_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


@final
class Lean(L.Callback):
    """Spares a run what costs more than the step of a small network, and puts it back at the end.

    Hooks that nobody has overridden are called no more. Adam asks at every step whether there is a CUDA device; without
    one, torch does not look for the driver's library each time, as Lightning has told it to.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin; by now all callbacks are there."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            self._take(callback, L.Callback)
        self._take(pl_module, L.LightningModule)
        if _ASKS_NVML in os.environ and not torch.cuda.device_count():
            self._undo.callback(os.environ.__setitem__, _ASKS_NVML, os.environ.pop(_ASKS_NVML))

    def _take(self, owner: Any, base: type) -> None:
        for name in _AT_EACH_BATCH:
            if getattr(type(owner), name) is getattr(base, name) and name not in vars(owner):
                setattr(owner, name, None)  # what is not callable is passed over
                self._undo.callback(delattr, owner, name)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put all back."""
        self._undo.close()
