"""A network that others wrote, a batch for it, and the loss that both give."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Classes of every network whose number of classes can be chosen.
CLASSES = 10


class CannotRunError(Exception):
    """Why a network cannot be built or trained here; no fault of the recorder."""


@dataclass
class Specimen:
    """A network and a fixed batch.

    Args:
        model: The network, its weights drawn from the generator's present seed.
        inputs: What it is called with.
        keywords: What it is called with by name, labels among them.
        returns_losses: Whether all that it returns in training are losses to be added.
    """

    model: nn.Module
    inputs: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    returns_losses: bool = False

    def loss(self) -> Tensor:
        """The model's own loss, else the cross-entropy of scores (B, C), else the mean square of all it returns."""
        output = self.model(*self.inputs, **self.keywords)
        own = output.get("loss") if isinstance(output, Mapping) else None
        if isinstance(own, Tensor) and own.requires_grad:
            return own.mean()
        found = [tensor for tensor in tensors(output) if tensor.requires_grad and not tensor.is_complex()]
        if not found:
            raise CannotRunError("it returns nothing that depends on its weights")
        if self.returns_losses:
            return torch.stack([loss.mean() for loss in found]).sum()
        if len(found) == 1 and found[0].dim() == 2:
            return F.cross_entropy(found[0], torch.arange(len(found[0])) % found[0].shape[1])
        return torch.stack([tensor.square().mean() for tensor in found]).sum()


def tensors(output: Any) -> Iterator[Tensor]:
    """All tensors of what a module returns, in order, however nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from tensors(part)
