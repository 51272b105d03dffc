"""Regularization: what is added to the loss, and what is done to the weights after a step."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unvanish.bounds import HalfOpenUnitInterval, NonNegativeFloat, PositiveFloat, check_bounds
from unvanish.training.brief import brief


@dataclass(frozen=True, repr=False)
class Regularization:
    """What keeps the network from overfitting.

    Weights are tensors with two axes or more; biases and gains are never penalised, decayed or constrained.

    Args:
        l1: lambda of the penalty lambda * sum |W|.
        l2: lambda of the penalty lambda * sum W^2 of the primer.
        weight_decay: Decoupled decay W <- W - eta * lambda * W (Loshchilov and Hutter 2019); adam, adamw and muon.
        dropout: Probability that a hidden unit is zeroed in training (Srivastava et al. 2014).
        label_smoothing: Share of the target spread evenly over the classes (Szegedy et al. 2016), in training only.
        max_norm: Largest norm of a unit's incoming weights, kept after every step (Srivastava et al. 2014, 5.1).
    """

    l1: NonNegativeFloat = 0.0
    l2: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    dropout: HalfOpenUnitInterval = 0.0
    label_smoothing: HalfOpenUnitInterval = 0.0
    max_norm: PositiveFloat | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        check_bounds(Regularization, vars(self), "regularization.")

    @property
    def has_penalty(self) -> bool:
        """Whether anything is added to the loss."""
        return self.l1 > 0 or self.l2 > 0

    def penalty(self, weights: Iterable[Tensor]) -> Tensor:
        """l1 * sum |W| + l2 * sum W^2, a scalar."""
        terms = []
        for weight in weights:
            if self.l1:
                terms.append(self.l1 * weight.abs().sum())
            if self.l2:
                terms.append(self.l2 * weight.square().sum())
        return torch.stack(terms).sum()

    @torch.no_grad()
    def constrain(self, weights: Iterable[Tensor]) -> None:
        """Shrink each unit's incoming weights (first axis) to a norm of ``max_norm`` at most, in place."""
        assert self.max_norm is not None
        for weight in weights:
            held = weight.to_local() if isinstance(weight, DTensor) else weight  # shards are of whole units
            held.copy_(torch.renorm(held, p=2, dim=0, maxnorm=self.max_norm))


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """The trainable tensors with two axes or more: what decay, penalties and constraints touch."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.dim() >= 2]
