"""What depth makes of a gradient, beside autograd's chain and closed forms."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unvanish.exercises.proofs.compare import Function, drawn, few, same, seeds, sizes
from unvanish.formulas.activations import relu_derivative, sigmoid_derivative, tanh_derivative

_layers, _q = st.integers(0, 30), st.sampled_from([0.01, 0.7, 1.0, 30.0])


@few
@given(factor=st.floats(0, 2), layers=_layers)
def gradient_after(f: Function, factor: float, layers: int) -> None:
    """A product of equal factors."""
    same(f(factor, layers), math.prod([factor] * layers), "what is left", "the product")


@few
@given(seed=seeds, layers=st.integers(1, 11), samples=sizes)
def product_of_derivatives(f: Function, seed: int, layers: int, samples: int) -> None:
    """Autograd's da_L/db_1 of a chain of one-unit layers."""
    for sigma, derivative in ((torch.sigmoid, sigmoid_derivative), (torch.tanh, tanh_derivative)):
        bs = [b.requires_grad_() for b in drawn(seed, *[(samples,)] * layers)]
        a, zs = torch.zeros(samples, dtype=torch.float64), []
        for b in bs:
            zs.append(a + b)
            a = sigma(zs[-1])
        (expected,) = torch.autograd.grad(a.sum(), bs[:1])
        same(f([z.detach() for z in zs], derivative), expected, "the product", "autograd")


@few
@given(layers=_layers)
def sigmoid_bound(f: Function, layers: int) -> None:
    """The product of derivatives where every z is 0."""
    zeros = torch.zeros(layers, dtype=torch.float64)
    expected = float(sigmoid_derivative(zeros).prod())
    bound = f(layers)
    same(bound, expected, "the bound", "the product at z = 0")
    same(bound / expected, 1.0, "the bound over the product at z = 0", "the proof")


@few
@given(q=_q)
def mean_square(f: Function, q: float) -> None:
    """Closed forms: of z, of z^2, of ReLU and of its derivative."""

    def rectified(z: Tensor) -> Tensor:
        return torch.relu(z)

    for name, function, expected in (
        ("z", lambda z: z, q),
        ("z^2", lambda z: z**2, 3 * q**2),
        ("ReLU(z)", rectified, q / 2),
        ("ReLU'(z)", relu_derivative, 0.5),
        ("erf(z)", torch.erf, 2 / math.pi * math.asin(2 * q / (1 + 2 * q))),
    ):
        same(f(function, q), expected, f"E[f(z)^2] of f = {name}", "its closed form")


@few
@given(q=_q, variance=st.floats(0.01, 3), fan_out=st.integers(1, 97))
def layer_factor(f: Function, q: float, variance: float, fan_out: int) -> None:
    """Closed forms: of linear layers and of ReLU."""
    linear = math.sqrt(fan_out * variance)
    same(f(torch.ones_like, variance, fan_out, q), linear, "the factor of a linear layer", "its closed form")
    rectified = math.sqrt(fan_out * variance / 2)
    same(f(relu_derivative, variance, fan_out, q), rectified, "the factor of a ReLU layer", "its closed form")


@few
@given(q=_q, variance=st.floats(0.01, 3), fan_in=st.integers(1, 97), bias=st.sampled_from([0.0, 0.3]))
def next_variance(f: Function, q: float, variance: float, fan_in: int, bias: float) -> None:
    """Closed forms: of linear layers and of ReLU."""
    linear = fan_in * variance * q + bias
    same(f(lambda z: z, variance, fan_in, q, bias), linear, "Var z behind a linear layer", "its closed form")
    rectified = fan_in * variance * q / 2 + bias
    same(f(torch.relu, variance, fan_in, q, bias), rectified, "Var z behind a ReLU", "its closed form")
