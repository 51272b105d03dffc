"""Removes needless work from every step while a run trains."""

import inspect
import os
from contextlib import ExitStack, nullcontext
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.profilers import PassThroughProfiler

#: Lightning calls these at every batch, of every callback and of the network, each within a context manager of its own.
_AT_EACH_BATCH = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)
_ASKS_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


@final
class Lean(L.Callback):
    """Switches off per-step work that takes longer than the step of a small network, and restores it at the end.

    Lightning no longer calls hooks that are not overridden, nor a profiler that measures nothing. Adam asks at every
    step whether there is a CUDA device; without one, torch no longer looks for the driver's library each time, which
    Lightning makes it do.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch off; all callbacks exist by now."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            self._take(callback, L.Callback)
        self._take(pl_module, L.LightningModule)
        step = type(pl_module).training_step
        if not hasattr(step, "__signature__"):  # which Lightning asks for at every step
            step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
            self._undo.callback(delattr, step, "__signature__")
        profiler = trainer.profiler  # type: ignore[attr-defined]
        if type(profiler) is PassThroughProfiler:
            nothing = nullcontext()
            vars(profiler)["profile"] = lambda _: nothing
            self._undo.callback(delattr, profiler, "profile")
        if _ASKS_NVML in os.environ and not torch.cuda.device_count():
            self._undo.callback(os.environ.__setitem__, _ASKS_NVML, os.environ.pop(_ASKS_NVML))

    def _take(self, owner: Any, base: type) -> None:
        for name in _AT_EACH_BATCH:
            if getattr(type(owner), name) is getattr(base, name) and name not in vars(owner):
                setattr(owner, name, None)  # what is not callable is passed over
                self._undo.callback(delattr, owner, name)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore everything."""
        self._undo.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore everything; Lightning does not tear down a run that fails."""
        self._undo.close()
