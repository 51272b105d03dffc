"""Activations and their derivatives, beside torch's and autograd."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes

_cases: Any = given(seed=seeds, shape=st.lists(sizes, min_size=1, max_size=3), scale=st.sampled_from([1.0, 10.0]))


#: By what is said of them, z where an activation saturates or has a kink.
_EDGES = {f" at z = {z:g}": torch.tensor([z], dtype=torch.float64) for z in (-1e4, -40.0, 0.0, 40.0, 1e4)}


def _z(seed: int, shape: list[int], scale: float) -> Tensor:
    return scale * drawn(seed, shape)[0]


def _value(torchs: Function, *options: tuple[float, ...]) -> Function:
    """The proof of an activation: torch's, also where it saturates; with each of ``options``, where there are any."""

    @few
    @_cases
    def proof(f: Function, seed: int, shape: list[int], scale: float) -> None:
        for own in options or ((),):
            for at, z in {"": _z(seed, shape, scale), **_EDGES}.items():
                same(f(z, *own), torchs(z, *own), f"a{at}")

    return proof  # type: ignore[no-any-return]


def _derivative(torchs: Function, *options: tuple[float, ...]) -> Function:
    """The proof of its derivative: autograd's, also where it saturates and at a kink."""

    @few
    @_cases
    def proof(f: Function, seed: int, shape: list[int], scale: float) -> None:
        for own in options or ((),):
            for at, z in {"": _z(seed, shape, scale), **_EDGES}.items():
                (expected,) = autograd(lambda z, own=own: torchs(z, *own), torch.ones_like(z), z)
                same(f(z, *own), expected, f"the derivative{at}", "autograd")

    return proof  # type: ignore[no-any-return]


_SLOPES = (0.01,), (0.3,)
sigmoid, sigmoid_derivative = _value(torch.sigmoid), _derivative(torch.sigmoid)
tanh, tanh_derivative = _value(torch.tanh), _derivative(torch.tanh)
relu, relu_derivative = _value(torch.relu), _derivative(torch.relu)
leaky_relu, leaky_relu_derivative = _value(F.leaky_relu, *_SLOPES), _derivative(F.leaky_relu, *_SLOPES)
log_sigmoid = _value(F.logsigmoid)


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
