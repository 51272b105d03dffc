"""Compares the gradients of two successive steps."""

from collections.abc import Hashable, Sequence
from typing import final

import torch
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.quantities import Part, Successive
from unvanish.gradients.quantities.gradient import GRADIENT
from unvanish.gradients.record import Step
from unvanish.gradients.weights import Parameters


@final
class Latest:
    """Copies of the gradients of each optimizer's last full step, for comparison with the step after it."""

    def __init__(self) -> None:
        #: The weights' layers, their gradients, and the norms of these.
        self.of: dict[Hashable, tuple[list[str], list[Tensor], Part]] = {}

    def compare(
        self,
        chosen: Hashable,
        names: list[str],
        gradients: Sequence[Tensor],
        recorded: Step,
        parameters: Parameters,
        scale: Tensor | float,
    ) -> None:
        """Compare a step's gradients with the copies, and drop the copies."""
        before = self.of.pop(chosen, None)
        if before is not None and before[0] == names:
            recorded.take(Successive(names, *before[1:], gradients, parameters.whole(gradients)), scale)

    def keep(
        self, chosen: Hashable, names: list[str], gradients: Sequence[Tensor], recorded: Step, scale: Tensor | float
    ) -> None:
        """Copy a step's gradients, divided by the gradient scaler's factor."""
        copies = [measure.local(gradient).clone() for gradient in gradients]
        if isinstance(scale, Tensor) or scale != 1:
            torch._foreach_div_(copies, scale)
        found = recorded.parts[GRADIENT]
        layers = len(found.names) - found.names.count("")
        self.of[chosen] = names, copies, Part(found.names[:layers], found.values[:layers])
