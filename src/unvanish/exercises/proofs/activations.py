"""Activations and their derivatives, beside torch's and autograd."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes

_cases: Any = given(seed=seeds, shape=st.lists(sizes, min_size=1, max_size=3), scale=st.sampled_from([1.0, 10.0]))


_EDGES = [torch.tensor([z], dtype=torch.float64) for z in (-1e4, -40.0, 0.0, 40.0, 1e4)]


def _z(seed: int, shape: list[int], scale: float) -> Tensor:
    return scale * drawn(seed, shape)[0]


def _value(f: Function, torchs: Function, z: Tensor) -> None:
    same(f(z), torchs(z), "a")
    for edge in _EDGES:
        same(f(edge), torchs(edge), f"a at z = {edge.item():g}")


def _derivative(f: Function, torchs: Function, z: Tensor) -> None:
    (expected,) = autograd(torchs, torch.ones_like(z), z)
    same(f(z), expected, "the derivative", "autograd")
    for edge in _EDGES:
        (expected,) = autograd(torchs, torch.ones_like(edge), edge)
        same(f(edge), expected, f"the derivative at z = {edge.item():g}", "autograd")


@few
@_cases
def sigmoid(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's."""
    _value(f, torch.sigmoid, _z(seed, shape, scale))


@few
@_cases
def sigmoid_derivative(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """Autograd's."""
    _derivative(f, torch.sigmoid, _z(seed, shape, scale))


@few
@_cases
def log_sigmoid(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's."""
    _value(f, F.logsigmoid, _z(seed, shape, scale))


@few
@_cases
def tanh(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's."""
    _value(f, torch.tanh, _z(seed, shape, scale))


@few
@_cases
def tanh_derivative(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """Autograd's."""
    _derivative(f, torch.tanh, _z(seed, shape, scale))


@few
@_cases
def relu(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's."""
    _value(f, torch.relu, _z(seed, shape, scale))


@few
@_cases
def relu_derivative(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """Autograd's, at the kink as well."""
    _derivative(f, torch.relu, _z(seed, shape, scale))


@few
@_cases
def leaky_relu(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's, of any slope."""
    for slope in (0.01, 0.3):
        _value(
            lambda z, slope=slope: f(z, slope), lambda z, slope=slope: F.leaky_relu(z, slope), _z(seed, shape, scale)
        )


@few
@_cases
def leaky_relu_derivative(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """Autograd's, of any slope, at the kink as well."""
    for slope in (0.01, 0.3):
        z = _z(seed, shape, scale)
        _derivative(lambda z, slope=slope: f(z, slope), lambda z, slope=slope: F.leaky_relu(z, slope), z)


@few
@_cases
def softmax(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's over the last axis, also where an exponential overflows."""
    z = _z(seed, shape, scale)
    same(f(z), torch.softmax(z, -1), "s")
    same(f(z + 1e4), torch.softmax(z + 1e4, -1), "s of logits near 1e4")


@few
@_cases
def log_softmax(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """torch's over the last axis, also where s is rounded to 0."""
    z = _z(seed, shape, scale)
    same(f(z), torch.log_softmax(z, -1), "log s")
    same(f(100 * z), torch.log_softmax(100 * z, -1), "log s of large logits")


@few
@given(seed=seeds, n=sizes)
def softmax_jacobian(f: Function, seed: int, n: int) -> None:
    """Autograd's, row by row."""
    (z,) = drawn(seed, (2, n))
    jacobian: Function = torch.autograd.functional.jacobian
    expected = torch.stack([jacobian(lambda row: torch.softmax(row, -1), row) for row in z])
    same(f(z), expected, "ds/dz", "autograd")


@few
@_cases
def softmax_backward(f: Function, seed: int, shape: list[int], scale: float) -> None:
    """Autograd's."""
    z, delta = drawn(seed, shape, shape)
    (expected,) = autograd(lambda z: torch.softmax(z, -1), delta, scale * z)
    same(f(delta, scale * z), expected, "dL/dz", "autograd")
