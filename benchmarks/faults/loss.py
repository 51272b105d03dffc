"""Losses as Keras has them, on probabilities, in operations of which autograd keeps the graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.faults.cases import Facts

EPSILON = 1e-7
Loss = Callable[[Tensor, Tensor], Tensor]


def loss_of(name: str, options: Facts | None) -> Loss:
    """The loss of that name: called with predictions and targets of one shape (B, ...), labels one-hot."""
    if name not in _LOSSES:
        raise ValueError(f"no loss is called {name}")
    return partial(_LOSSES[name], **(options or {}))


def _binary_crossentropy(p: Tensor, y: Tensor) -> Tensor:
    p = p.clamp(EPSILON, 1 - EPSILON)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def _categorical_crossentropy(p: Tensor, y: Tensor) -> Tensor:
    p = (p / p.sum(-1, keepdim=True)).clamp(EPSILON, 1 - EPSILON)
    return -(y * p.log()).sum(-1).mean()


def _softmax_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return -(y * logits.log_softmax(-1)).sum(-1).mean()


def _hand_written(
    p: Tensor,
    y: Tensor,
    softmax_axis: int | None = None,
    epsilon: float = 1e-32,
    inner: str = "sum",
    inner_axis: int = 1,
    outer: str = "mean",
) -> Tensor:
    if softmax_axis is not None:
        p = (p - p.amax(softmax_axis, keepdim=True)).softmax(softmax_axis)
    terms = -y * p.clamp(epsilon, 1 - epsilon).log()
    return _reduced(terms.sum(inner_axis) if inner == "sum" else terms.mean(inner_axis), outer)


def _mse(p: Tensor, y: Tensor, broadcast: bool = False, outer: str = "mean") -> Tensor:
    # (B, 1) minus (B,) is every prediction against every target.
    return _reduced((p - (y.reshape(1, -1) if broadcast else y)).square(), outer)


def _mae(p: Tensor, y: Tensor, outer: str = "mean") -> Tensor:
    return _reduced((p - y).abs(), outer)


def _msle(p: Tensor, y: Tensor) -> Tensor:
    return (p.clamp(min=EPSILON).log1p() - y.clamp(min=EPSILON).log1p()).square().mean()


def _smooth_l1(p: Tensor, y: Tensor) -> Tensor:
    error = (p - y).abs()
    return (error.clamp(max=1).square() / 2 + (error - 1).clamp(min=0)).mean()


def _hinge(p: Tensor, y: Tensor) -> Tensor:
    return (1 - y * p).clamp(min=0).mean()


def _reduced(terms: Tensor, how: str) -> Tensor:
    return terms.sum() if how == "sum" else terms.mean()


_LOSSES: dict[str, Callable[..., Any]] = {
    "binary_crossentropy": _binary_crossentropy,
    "categorical_crossentropy": _categorical_crossentropy,
    "softmax_cross_entropy_with_logits": _softmax_cross_entropy,
    "hand_written_cross_entropy": _hand_written,
    "mse": _mse,
    "mae": _mae,
    "msle": _msle,
    "smooth_l1": _smooth_l1,
    "hinge": _hinge,
}
