"""Reads clipped gradients before an optimizer's step, and the updates of the weights after it."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from unvanish.gradients import measure
from unvanish.gradients.missing import Missing
from unvanish.gradients.quantities import Clipped, Update
from unvanish.gradients.record import Step
from unvanish.gradients.weights import Parameters

_NO_STEP = "no optimizer of torch.optim has begun a step between before_step and after_step"
_SCALED = "the optimizer takes the gradient scaler's factor out itself"


@dataclass
class Pending:
    """A step of an optimizer that has not ended.

    Args:
        step: Where it is recorded.
        names: Layers of all parameters that have a gradient, weights first.
        parameters: These parameters.
        copies: The weights before the step; of sharded ones, this rank's shards.
        is_unscaled: Whether the gradients have been divided by the gradient scaler's factor.
        whole: Reads whole tensors.
        has_begun: Whether the optimizer has begun its step.
    """

    step: Step
    names: list[str]
    parameters: list[Tensor]
    copies: list[Tensor]
    is_unscaled: bool
    whole: Parameters
    has_begun: bool = False

    def is_of(self, optimizer: Optimizer | None) -> bool:
        """Whether the optimizer has any of the parameters."""
        groups = optimizer.param_groups if optimizer else []
        own = {id(parameter) for group in groups for parameter in group["params"]}
        return any(id(parameter) in own for parameter in self.parameters)


def options_of(*optimizers: Optimizer) -> tuple[Mapping[str, Any], ...]:
    """The options of the optimizers' parameter groups that are on the host."""
    return tuple(
        {"optimizer": type(optimizer).__name__}
        | {key: value for key, value in group.items() if isinstance(value, int | float | tuple) and key != "params"}
        for optimizer in optimizers
        for group in optimizer.param_groups
    )


@final
class Updates:
    """The open steps, at most one for each optimizer."""

    def __init__(self) -> None:
        self._pending: dict[Hashable, Pending] = {}
        self._without: str | None = None
        self._has_clipped = False

    def begin(self, chosen: Hashable, pending: Pending | None) -> None:
        """Expect a step of an optimizer; None if its update is not measured."""
        self._pending.pop(chosen, None)
        if pending is not None:
            self._pending[chosen] = pending

    def say(self, missing: Missing) -> None:
        """Report why the clipped gradient was not read at any step, if it was not."""
        if self._without and not self._has_clipped:
            missing.add("gradient after clipping", ["the network"], self._without)

    def clipped(self, optimizer: Optimizer | None = None) -> None:
        """Read the gradients as the optimizer will see them."""
        for pending in self._of(optimizer):
            if pending.has_begun:
                continue
            pending.has_begun = True
            gradients = [p.grad for p in pending.parameters if p.grad is not None]
            if pending.is_unscaled and len(gradients) == len(pending.parameters):
                self._has_clipped = True
                with torch.no_grad():
                    pending.step.take(Clipped(pending.names, gradients, pending.whole.as_they_are))

    def end(self, optimizer: Optimizer | None) -> None:
        """Read how far the weights have moved.

        Args:
            optimizer: Whose step has ended; by default those whose step has begun, or else all.
        """
        if not self._pending:
            return
        ended = self._of(optimizer) if optimizer else [p for p in self._pending.values() if p.has_begun]
        for pending in ended or [*self._pending.values()]:
            count = len(pending.copies)
            names, weights = pending.names[:count], pending.parameters[:count]
            with torch.no_grad():
                moved = [*torch._foreach_sub([measure.local(weight) for weight in weights], pending.copies)]
                slopes = [None if weight.grad is None else measure.local(weight.grad) for weight in weights]
                pending.step.take(Update(names, weights, moved, slopes, optimizer, pending.whole.whole(weights)))
            if optimizer is not None:
                pending.step.options = options_of(optimizer)
            self._without = _NO_STEP if pending.is_unscaled else _SCALED
            self._pending = {key: other for key, other in self._pending.items() if other is not pending}

    def _of(self, optimizer: Optimizer | None) -> list[Pending]:
        """The steps of an optimizer; all if it has none of the model's parameters but copies of them."""
        pending = [*self._pending.values()]
        return [one for one in pending if one.is_of(optimizer)] or pending
