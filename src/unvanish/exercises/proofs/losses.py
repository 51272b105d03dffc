"""Losses and their derivatives, beside torch's and autograd."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes

_SCALES = st.sampled_from([0.1, 1.0, 20.0])  # of logits: 20 is where a sigmoid is rounded
_cases: Any = given(seed=seeds, samples=sizes, classes=sizes, scale=_SCALES)


def _drawn(seed: int, shape: tuple[int, ...], scale: float) -> tuple[Tensor, Tensor]:
    """Logits, and targets in [0, 1]: half of them 0 or 1."""
    z, t, kind = drawn(seed, shape, shape, shape)
    y = torch.where(kind > 0, torch.sigmoid(t), (t > 0).double())
    return scale * z, y


def _rows(seed: int, samples: int, classes: int, scale: float) -> tuple[Tensor, Tensor]:
    """Logits (B, C), and targets of which each row sums to 1: soft ones or one-hot."""
    z, t = drawn(seed, (samples, classes), (samples, classes))
    one_hot = F.one_hot(t.argmax(-1), classes).double()
    return scale * z, one_hot if seed % 2 else t.softmax(-1)


@few
@_cases
def binary_cross_entropy(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """torch's on logits, also where they are large."""
    z, y = _drawn(seed, (samples,), scale)
    same(f(z, y), F.binary_cross_entropy_with_logits(z, y), "L")
    far = torch.tensor([1e4, -1e4], dtype=torch.float64)
    same(f(far, torch.zeros_like(far)), torch.tensor(5e3, dtype=torch.float64), "L of the logits 1e4 and -1e4")


@few
@_cases
def binary_cross_entropy_derivative(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """Autograd's."""
    z, y = _drawn(seed, (samples,), scale)
    (expected,) = autograd(lambda z: F.binary_cross_entropy_with_logits(z, y), None, z)
    same(f(z, y), expected, "dL/dz", "autograd")


@few
@_cases
def binary_cross_entropy_of_probability(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """torch's on probabilities."""
    t, y = _drawn(seed, (samples,), 1.0)
    y_hat = 0.01 + 0.98 * torch.sigmoid(t)
    same(f(y_hat, y), F.binary_cross_entropy(y_hat, y), "L")


@few
@_cases
def categorical_cross_entropy(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """torch's on logits, also where they are large."""
    z, y = _rows(seed, samples, classes, scale)
    same(f(z, y), F.cross_entropy(z, y), "L")
    far, right = torch.tensor([[1e4, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    same(f(far, right), torch.tensor(1e4, dtype=torch.float64), "L of the logits 1e4 and 0")


@few
@_cases
def categorical_cross_entropy_derivative(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """Autograd's."""
    z, y = _rows(seed, samples, classes, scale)
    (expected,) = autograd(lambda z: F.cross_entropy(z, y), None, z)
    same(f(z, y), expected, "dL/dz", "autograd")


@few
@_cases
def categorical_cross_entropy_of_probability(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """torch's on the logarithms of probabilities, which its softmax leaves as they are."""
    z, y = _rows(seed, samples, classes, 1.0)
    y_hat = z.softmax(-1)
    same(f(y_hat, y), F.cross_entropy(y_hat.log(), y), "L")


@few
@_cases
def mean_squared_error(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """torch's."""
    y_hat, y = drawn(seed, (samples, classes), (samples, classes))
    same(f(scale * y_hat, y), F.mse_loss(scale * y_hat, y), "L")


@few
@_cases
def mean_squared_error_derivative(f: Function, seed: int, samples: int, classes: int, scale: float) -> None:
    """Autograd's."""
    y_hat, y = drawn(seed, (samples, classes), (samples, classes))
    (expected,) = autograd(lambda y_hat: F.mse_loss(y_hat, y), None, y_hat)
    same(f(y_hat, y), expected, "dL/dy_hat", "autograd")
