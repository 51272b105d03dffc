"""What keeps a network from overfitting: a penalty on large weights, and units left out at random.

Shapes: W (n_out, n_in); a, mask and delta (any), all of one shape. p is the probability that a unit is dropped.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class MeanVariance(NamedTuple):
    """Of each element."""

    mean: Tensor
    variance: Tensor


def l2(loss: Tensor, weights: Iterable[Tensor], lambda_: float) -> Tensor:
    """L' = L + lambda sum W^2, over all elements of all weights. L is a scalar; biases are not penalised."""
    if loss.dim() > 0:
        raise ValueError(f"the loss is {tuple(loss.shape)}; the penalty is added once, to a scalar such as its mean")
    return loss + lambda_ * sum(W.square().sum() for W in weights)


def l2_gradient(W: Tensor, lambda_: float) -> Tensor:
    """2 lambda W, which the penalty adds to dL/dW."""
    return 2 * lambda_ * W


def dropout_mask(a: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """1 with probability 1 - p, else 0, for each element of a on its own; a's shape, dtype and device."""
    _check_probability(p)
    return torch.empty_like(a).bernoulli_(1 - p, generator=generator)


def dropout(a: Tensor, mask: Tensor, p: float) -> Tensor:
    """a * mask / (1 - p): inverted dropout, in training only (Srivastava et al. 2014, whose p is our 1 - p).

    Dividing in training keeps the mean of each unit, so a trained network is used as it is.

    Raises:
        ValueError: p is not in [0, 1), or the mask is not of a's shape: samples that share a mask are not the formula.
    """
    _check_probability(p)
    if mask.shape != a.shape:
        raise ValueError(f"the mask is {tuple(mask.shape)} and a {tuple(a.shape)}; each element has a mask of its own")
    return a * mask / (1 - p)


def dropout_backward(delta: Tensor, mask: Tensor, p: float) -> Tensor:
    """dL/da = delta * mask / (1 - p): a dropped unit has no gradient."""
    return dropout(delta, mask, p)


def dropout_mean_variance(a: Tensor, p: float) -> MeanVariance:
    """E = a and Var = a^2 p / (1 - p) of ``dropout(a, mask, p)`` over its masks."""
    _check_probability(p)
    return MeanVariance(a, a.square() * p / (1 - p))


def _check_probability(p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}; it must be at least 0 and below 1")
