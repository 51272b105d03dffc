import math
from itertools import pairwise
from statistics import geometric_mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unvanish.formulas.activations import (
    leaky_relu,
    leaky_relu_derivative,
    relu,
    relu_derivative,
    sigmoid,
    sigmoid_derivative,
    tanh,
    tanh_derivative,
)
from unvanish.formulas.vanishing import (
    gradient_after,
    layer_factor,
    mean_square,
    next_variance,
    product_of_derivatives,
    sigmoid_bound,
)
from unvanish.gradients.theory import expected_factors

SETTINGS = settings(max_examples=25, deadline=None)
ACTIVATIONS = {
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (tanh, tanh_derivative),
    "relu": (relu, relu_derivative),
}


def test_ten_layers_of_a_tenth():
    assert gradient_after(0.1, 10) == pytest.approx(1e-10, rel=1e-12)
    assert gradient_after(1.5, 3) == pytest.approx(3.375, rel=1e-12)
    assert gradient_after(0.3, 0) == 1


@st.composite
def chains(draw):
    """z_1 to z_L, each of one shape: (L, B)."""
    layers, samples = draw(st.integers(1, 11)), draw(st.integers(1, 5))
    values = draw(st.lists(st.floats(-9, 9), min_size=layers * samples, max_size=layers * samples))
    return torch.tensor(values, dtype=torch.float64).view(layers, samples)


def test_the_product_keeps_dtype_and_refuses_layers_of_several_shapes():
    assert product_of_derivatives([torch.ones(3)], sigmoid_derivative).dtype == torch.float32
    with pytest.raises(RuntimeError, match="equal size"):
        product_of_derivatives([torch.zeros(3, 1), torch.zeros(3)], sigmoid_derivative)


@SETTINGS
@given(chains())
def test_no_product_of_sigmoid_derivatives_exceeds_the_bound(zs):
    assert (product_of_derivatives(zs, sigmoid_derivative).abs() <= sigmoid_bound(len(zs)) * (1 + 1e-12)).all()


@pytest.mark.parametrize("layers", [1, 2, 7, 20])
def test_the_sigmoid_bound_is_reached_at_zero(layers):
    product = product_of_derivatives(torch.zeros(layers, 1, dtype=torch.float64), sigmoid_derivative)
    assert product.item() == pytest.approx(sigmoid_bound(layers), rel=1e-12)
    assert sigmoid_bound(layers) == pytest.approx(4.0**-layers, rel=1e-12)


@pytest.mark.parametrize("q", [0.01, 0.7, 1.0, 30.0])
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda z: z, lambda q: q),
        (lambda z: z**2, lambda q: 3 * q**2),
        (relu, lambda q: q / 2),
        (relu_derivative, lambda q: 1 / 2),
        (leaky_relu, lambda q: q / 2 * (1 + 0.01**2)),
        (leaky_relu_derivative, lambda q: (1 + 0.01**2) / 2),
        (torch.erf, lambda q: 2 / math.pi * math.asin(2 * q / (1 + 2 * q))),
        (lambda z: 2 / math.sqrt(math.pi) * torch.exp(-(z**2)), lambda q: 4 / math.pi / math.sqrt(1 + 4 * q)),
    ],
)
def test_mean_squares_have_their_closed_forms(f, expected, q):
    assert mean_square(f, q) == pytest.approx(expected(q), rel=1e-12)


@pytest.mark.parametrize("q", [0.01, 1.0, 30.0])
def test_mean_squares_have_the_stated_precision_at_kinks_and_jumps(q):
    root = math.sqrt(q)

    def tail(c):  # P(z > c)
        return math.erfc(c / math.sqrt(2 * q)) / 2

    kink_at_0 = 1 + 2 * root / math.sqrt(2 * math.pi) + q / 2
    assert mean_square(lambda z: 1 + relu(z), q) == pytest.approx(kink_at_0, rel=1e-7)
    jump_at_0 = 5 / 2 + 4 * root / math.sqrt(2 * math.pi) + q / 2
    assert mean_square(lambda z: 1 + relu(z) + (z > 0), q) == pytest.approx(jump_at_0, rel=1e-7)
    c = 0.7 * root
    density = math.exp(-(c**2) / (2 * q)) / math.sqrt(2 * math.pi)
    kink_at_c = (q + c**2) * tail(c) - c * root * density
    assert mean_square(lambda z: relu(z - c), q) == pytest.approx(kink_at_c, rel=1e-7)
    assert mean_square(lambda z: (z > c).double(), q) == pytest.approx(tail(c), rel=1e-3)


def test_mean_squares_where_every_z_is_zero():
    assert mean_square(sigmoid, 0.0) == pytest.approx(1 / 4, rel=1e-12)


@pytest.mark.parametrize("q", [0.3, 1.0, 17.0])
@pytest.mark.parametrize(("scheme", "v", "factor"), [("he", 2, 1), ("xavier", 1, 0.7071), ("torch", 1 / 3, 0.4082)])
def test_square_relu_layers_have_the_published_factors(scheme, v, factor, q):
    found = layer_factor(relu_derivative, v / 53, 53, q)
    assert found == pytest.approx(math.sqrt(v / 2), rel=1e-12)
    assert found == pytest.approx(factor, abs=5e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("q0", [0.2, 1.0, 40.0])
def test_factors_are_those_of_the_gradient_theory(name, q0):
    sigma, sigma_derivative = ACTIVATIONS[name]
    widths, sigma_w2, sigma_b2 = [11, 13, 5, 17, 7], [1.3, 2.1, 0.6, 3.0], [0.0, 0.2, 0.05, 0.7]
    expected = expected_factors([name] * 3, sigma_w2, sigma_b2, q0)
    q, norm_factors = sigma_w2[0] * q0 + sigma_b2[0], []
    for i in (1, 2, 3):
        fan_in, fan_out = widths[i], widths[i + 1]
        rms_factor = layer_factor(sigma_derivative, sigma_w2[i] / fan_in, fan_out, q)
        norm_factors.append(rms_factor * math.sqrt(fan_in / fan_out))
        assert layer_factor(sigma_derivative, sigma_w2[i] / fan_in, fan_in, q) == pytest.approx(norm_factors[-1])
        q = next_variance(sigma, sigma_w2[i] / fan_in, fan_in, q, sigma_b2[i])
    assert norm_factors == pytest.approx(expected, rel=1e-6)


def measured(name, widths, weight_variance, bias_variance, q):
    """For z_1 ~ N(0, q) and L = sum(z_L V), V ~ N(0, 1): the RMS of dL/dz and the mean square of z, layer by layer."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    zs = [(normal(16, widths[0]) * math.sqrt(q)).requires_grad_()]
    for fan_in, fan_out in pairwise(widths):
        W = normal(fan_out, fan_in) * math.sqrt(weight_variance)
        zs.append(getattr(torch, name)(zs[-1]) @ W.T + normal(fan_out) * math.sqrt(bias_variance))
    deltas = torch.autograd.grad((zs[-1] * normal(*zs[-1].shape)).sum(), zs)
    return [delta.square().mean().sqrt().item() for delta in deltas], [z.square().mean().item() for z in zs]


@pytest.mark.parametrize(("name", "v", "bias_variance"), [("sigmoid", 1, 0.1), ("tanh", 1.5, 0.3), ("relu", 2, 0)])
def test_factors_and_variances_are_those_that_autograd_measures(name, v, bias_variance):
    n, depth, q = 512, 20, 1.0
    sigma, sigma_derivative = ACTIVATIONS[name]
    rms, squares = measured(name, [n] * (depth + 1), v / n, bias_variance, q)
    factors = []
    for _ in range(depth):
        factors.append(layer_factor(sigma_derivative, v / n, n, q))
        q = next_variance(sigma, v / n, n, q, bias_variance)
    growth = [after / next_variance(sigma, v / n, n, before, bias_variance) for before, after in pairwise(squares)]
    # A ReLU layer multiplies a sample's |delta|^2 and |z|^2 by factors whose logarithms have the variance 5 / n (Hanin
    # and Nica 2018), sigmoid and tanh less: the mean over layers has a standard error below 0.022, of roots 0.011.
    error = math.sqrt(5 / (n * depth))
    assert math.log(rms[0] / rms[-1]) / depth == pytest.approx(math.log(geometric_mean(factors)), abs=4 * error / 2)
    assert math.log(geometric_mean(growth)) == pytest.approx(0, abs=4 * error)


@pytest.mark.parametrize("widths", [(1009, 101), (101, 1009)])
def test_between_layers_of_different_width_the_rms_takes_fan_out_and_the_norm_fan_in(widths):
    (fan_in, fan_out), variance = widths, 0.003
    (before, after), _ = measured("relu", widths, variance, 0.0, 1.0)
    # V is known, so |delta_1|^2 is a sum over fan_in independent units, each of relative variance 5, and over 16
    # samples whose V are independent. The root halves the relative standard error: 0.028 or 0.009.
    tolerance = 4 * math.sqrt(5 / fan_in / 16) / 2
    rms_factor = layer_factor(relu_derivative, variance, fan_out, 1.0)
    assert before / after == pytest.approx(rms_factor, rel=tolerance)
    norm_factor = layer_factor(relu_derivative, variance, fan_in, 1.0)
    assert before / after * math.sqrt(fan_in / fan_out) == pytest.approx(norm_factor, rel=tolerance)
