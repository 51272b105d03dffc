"""What a run does at a loss or a gradient that is NaN or infinite."""

import logging
import math
from typing import Any, final

import lightning as L
import torch
from torch import Tensor

from unvanish.gradients import GradientMonitor

log = logging.getLogger("unvanish.command")

STOP, SKIP, IGNORE = "stop", "skip", "ignore"
#: Steps between two looks at a device, which has to be waited for; and those that are skipped in a row, at most.
_EVERY = 100


class NonFinite(Exception):  # noqa: N818 - what it says is said by whoever catches it
    """A loss or gradient is NaN or infinite.

    Args:
        step: The first optimizer step in which it was seen.
        what: ``loss``, ``gradient``, or words that include one of them.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"the {what} is not finite in step {step}")
        self.step, self.what = step, what


@final
class FiniteSteps(L.Callback):
    """Stops a run at a loss or gradient that is not finite, or skips that optimizer step.

    On the CPU, and in order to skip steps, every step is checked before it is made. On an accelerator the results of
    100 steps are read together, because reading waits for the device. A gradient scaler skips steps by itself; then
    only the loss is checked.

    Args:
        action: stop or skip.
        monitor: The gradient monitor, which may have read the gradients already.
    """

    def __init__(self, action: str, monitor: GradientMonitor) -> None:
        self.action, self.monitor = action, monitor
        monitor.leaves_out_non_finite = action == SKIP
        self.skipped = self._in_a_row = 0
        #: Undoes what a pass without a step has done to buffers.
        self.restore_buffers: Any = None
        self._loss: Tensor | None = None
        self._waiting: list[tuple[int, Tensor]] = []

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss; with gradient accumulation, the sum of the losses."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Check the loss and the gradients now, or queue them for a later check."""
        loss, self._loss = self._loss, None
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.action == STOP and gradients and not gradients[0].is_cpu:
            self._put_off(trainer, loss, [] if has_scaler else gradients)
            return
        what = ""
        if loss is not None and not math.isfinite(float(loss)):
            what = "loss"
        elif not has_scaler and not self._are_finite(gradients):
            what = "gradient"
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(bool(what), all=False):
            what = what or "gradient"
        if not what:
            self._in_a_row = 0
            return
        if self.action == STOP:
            raise NonFinite(trainer.global_step, what)
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= _EVERY:
            raise NonFinite(trainer.global_step, f"{what} of {_EVERY} steps in a row")
        if self.skipped == 1:
            log.warning("the %s is not finite in step %d, which is skipped", what, trainer.global_step)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        if self.restore_buffers is not None:
            self.restore_buffers()

    def _are_finite(self, gradients: list[Tensor]) -> bool:
        known = self.monitor.gradients_are_finite()
        if known is not None:
            return known
        return not (found := _norms(gradients)) or math.isfinite(torch.stack(found).sum().item())

    def _put_off(self, trainer: L.Trainer, loss: Tensor | None, gradients: list[Tensor]) -> None:
        found = [*_norms(gradients), *([] if loss is None else [loss])]
        numbers = torch.stack([n.double() for n in found])
        self._waiting.append((trainer.global_step, numbers.isfinite().all()))
        if len(self._waiting) >= _EVERY:
            self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        finite = torch.stack([number for _, number in waiting]).tolist()
        first = next((step for (step, _), is_fine in zip(waiting, finite, strict=True) if not is_fine), None)
        if trainer.world_size > 1:
            is_told = trainer.strategy.reduce_boolean_decision(first is not None, all=False)
            first = waiting[0][0] if is_told and first is None else first
        if first is not None:
            raise NonFinite(first, "loss or gradient")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the steps that are still queued."""
        self._look(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = state_dict["skipped"]


def _norms(gradients: list[Tensor]) -> list[Tensor]:
    """Norms of the tensors that are not shards; of a shard no rank knows the whole norm."""
    whole = [gradient for gradient in gradients if not hasattr(gradient, "to_local")]
    return [*torch._foreach_norm(whole)] if whole else []
