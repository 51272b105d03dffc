"""Shortcuts, beside autograd."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes
from unvanish.formulas.activations import sigmoid_derivative

_cases: Any = given(seed=seeds, samples=sizes, n=sizes)


@few
@_cases
def residual(f: Function, seed: int, samples: int, n: int) -> None:
    """x + F(x)."""
    x, W = drawn(seed, (samples, n), (n, n))
    same(f(x, lambda x: torch.tanh(x @ W.T)), x + torch.tanh(x @ W.T), "the block's output", "the proof")


@few
@_cases
def residual_derivative(f: Function, seed: int, samples: int, n: int) -> None:
    """Autograd's of x + tanh(x)."""
    (x,) = drawn(seed, (samples, n))
    (expected,) = autograd(lambda x: x + torch.tanh(x), torch.ones_like(x), x)
    same(f(1 - torch.tanh(x) ** 2), expected, "the derivative", "autograd")


@few
@_cases
def residual_jacobian(f: Function, seed: int, samples: int, n: int) -> None:
    """Autograd's of x + F(x), sample by sample."""
    x, W = drawn(seed, (samples, n), (n, n))
    jacobian: Function = torch.autograd.functional.jacobian
    of_F = torch.stack([jacobian(lambda row: torch.tanh(W @ row), row) for row in x])
    expected = torch.stack([jacobian(lambda row: row + torch.tanh(W @ row), row) for row in x])
    same(f(of_F), expected, "the Jacobian", "autograd")


@few
@_cases
def residual_backward(f: Function, seed: int, samples: int, n: int) -> None:
    """Autograd's through x + F(x)."""
    x, W, delta = drawn(seed, (samples, n), (n, n), (samples, n))

    def F(x: Tensor) -> Tensor:
        return torch.tanh(x @ W.T)

    (expected,) = autograd(lambda x: x + F(x), delta, x)
    same(f(delta, lambda delta: autograd(F, delta, x)[0]), expected, "dL/dx", "autograd")


def _chain(step: Function, x: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """The x_l that go into each block, and autograd's dx_L/dx_0."""
    xs = [x.clone().requires_grad_()]
    for _ in range(blocks):
        xs.append(step(xs[-1]))
    (derivative,) = torch.autograd.grad(xs[-1].sum(), xs[0])
    return torch.stack(xs[:-1]).detach(), derivative


@few
@given(seed=seeds, n=sizes, blocks=st.integers(1, 7))
def plain_product(f: Function, seed: int, n: int, blocks: int) -> None:
    """Autograd's of a chain of sigmoids."""
    xs, expected = _chain(torch.sigmoid, drawn(seed, (n,))[0], blocks)
    same(f(sigmoid_derivative(xs)), expected, "the product", "autograd")


@few
@given(seed=seeds, n=sizes, blocks=st.integers(1, 7))
def residual_product(f: Function, seed: int, n: int, blocks: int) -> None:
    """Autograd's of a chain of x + sigmoid(x)."""
    xs, expected = _chain(lambda x: x + torch.sigmoid(x), drawn(seed, (n,))[0], blocks)
    same(f(sigmoid_derivative(xs)), expected, "the product", "autograd")
