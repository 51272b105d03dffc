"""How a network is trained in a trial, and what is known of it before."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.gradients.record import Record

Batch = tuple[Any, Tensor]
Loss = Callable[[Any, Tensor], Tensor]


class UnfitError(ValueError):
    """A remedy that this network cannot take, and why."""


class Call(NamedTuple):
    """A module that has returned: its name, whether it has a weight of its own, and the axes of what it returned."""

    name: str
    has_weight: bool
    axes: int


@dataclass(frozen=True)
class Plan:
    """A network and how it is trained.

    Args:
        model: The network; training changes it.
        batches: (x, y), taken in turns.
        loss: What is minimised, of the network's output and y.
        optimizer: Makes the optimizer of a network.
        steps: How many there will be.
        record: What one step has shown before any training.
        activations: The kind of activation after each layer.
        calls: The modules in the order in which they have returned.
        layers: Where the finding is that names the remedy.
        measured: The loss in the units of the network that is unchanged; ``loss``, if None.
        penalty: What is added to the loss before its gradient is taken.
        rate: Factor of the learning rate at each step.
        clip: Changes the gradients before a step.
        changes: What a remedy has changed, by name.
    """

    model: nn.Module
    batches: Sequence[Batch]
    loss: Loss
    optimizer: Callable[[nn.Module], Optimizer]
    steps: int
    record: Record
    activations: Mapping[str, str] = field(default_factory=dict)
    calls: Sequence[Call] = ()
    layers: Sequence[str] = ()
    measured: Loss | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None
    rate: Callable[[int], float] = lambda _: 1.0
    clip: Callable[[Iterable[nn.Parameter]], object] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learning_rate(self) -> float:
        """Of the first group; NaN where the optimizer has none."""
        return float(self.optimizer(self.model).param_groups[0].get("lr", math.nan))

    @property
    def is_regression(self) -> bool:
        """Whether the loss is known to compare numbers, and nothing that is a class."""
        losses = {head.loss for head in self.record.heads}
        labels = any(head.target is not None and head.target.is_labels for head in self.record.heads)
        return bool(losses) and losses <= {"squared error", "absolute error"} and not labels


def calls_of(model: nn.Module, x: Any) -> list[Call]:
    """What is called in one forward pass; of modules that have others inside, those with a weight of their own."""
    found: list[Call] = []
    handles = []
    for name, module in model.named_modules():
        has_weight = any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
        if has_weight or not any(True for _ in module.children()):

            def see(_: nn.Module, __: Any, output: Any, name: str = name, has_weight: bool = has_weight) -> None:
                found.append(Call(name, has_weight, output.dim() if isinstance(output, Tensor) else 0))

            handles.append(module.register_forward_hook(see))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found
