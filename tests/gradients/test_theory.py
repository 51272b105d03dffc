import math
import re
from itertools import pairwise
from statistics import fmean
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from unvanish.activations import ACTIVATIONS, ActivationName
from unvanish.gradients.theory import batchnorm_explosion, expected_factors, gain, mean_field
from unvanish.gradients.theory.mean_field import _correlated_averages, _elementwise

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("sigma_w2", "chi"), [(1.0, 0.7590), (1.5, 0.9386), (1.76095, 1.0), (2.5, 1.1335), (4.0, 1.3424)]
)
def test_tanh_has_the_published_chi(sigma_w2, chi):
    assert mean_field("tanh", sigma_w2, 0.05).chi == pytest.approx(chi, abs=5e-5)


@pytest.mark.parametrize(("v", "factor"), [(2, 1.0), (1, 0.7071), (1 / 3, 0.4082)])
def test_relu_with_he_xavier_and_torchs_default_has_the_published_factor(v, factor):
    expected = mean_field("relu", v)
    assert expected.factor_per_layer == pytest.approx(factor, abs=5e-5)
    assert expected.chi == pytest.approx(v / 2, rel=1e-12)


def test_the_published_gains():
    assert gain("relu") == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gain("tanh") == pytest.approx(1.59254, abs=5e-6)
    assert gain("selu") == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("batch_size", "rate"),
    [(8, 1.7882), (16, 1.5900), (32, 1.5220), (64, 1.4931), (256, 1.4732), (10**9, 1.4669), (math.inf, 1.4669)],
)
def test_batchnorm_explodes_at_the_published_rate(batch_size, rate):
    assert batchnorm_explosion(batch_size) == pytest.approx(rate, abs=5e-5)


def test_moments_have_their_closed_forms():
    assert gain(lambda z: z**2) == pytest.approx(1 / math.sqrt(3), rel=1e-12)  # E[z^4] = 3
    factors = expected_factors(["relu", lambda z: z**2 / 2], [1, 1, 1], [0, 0, 0], q0=0.37)
    assert factors == pytest.approx([math.sqrt(1 / 2), math.sqrt(0.37 / 2)], rel=1e-12)  # E[relu^2] = q/2


@pytest.mark.parametrize("sigma_w2", [1.2, 4.0, 100.0])
def test_the_fixed_point_of_tanh_is_that_of_a_fine_sum(sigma_w2):
    expected = mean_field("tanh", sigma_w2, 0.05)
    z = np.linspace(-10, 10, 400_001)
    weights = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    h = np.tanh(math.sqrt(expected.q) * z)
    assert 0.05 + sigma_w2 * (weights @ h**2) == pytest.approx(expected.q, rel=1e-10)
    assert sigma_w2 * (weights @ (1 - h**2) ** 2) == pytest.approx(expected.chi, rel=1e-10)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(0.5, 0.3), (1.5, 0.1), (3.0, 0.2), (100.0, 0.05)])
def test_erf_has_its_closed_forms(sigma_w2, sigma_b2):
    q, c = 1.0, 0.5
    for _ in range(2000):
        arc = math.asin(2 * q * c / (1 + 2 * q))
        q_next = sigma_b2 + sigma_w2 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q))
        q, c = q_next, (sigma_b2 + sigma_w2 * 2 / math.pi * arc) / q_next
    slope = sigma_w2 * 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    expected = mean_field(torch.erf, sigma_w2, sigma_b2)
    assert expected.q == pytest.approx(q, rel=1e-10)
    assert expected.chi == pytest.approx(sigma_w2 * 4 / math.pi / math.sqrt(1 + 4 * q), rel=1e-10)
    assert expected.c == pytest.approx(c, rel=1e-9)
    assert expected.xi == pytest.approx(-1 / math.log(slope), rel=1e-9)


@pytest.mark.parametrize("c", [0.0, 0.3, 0.999])
def test_correlated_relus_have_the_arc_cosine_kernel(c):
    kernel = (math.sqrt(1 - c**2) + (math.pi - math.acos(c)) * c) / math.pi
    slope = (math.pi - math.acos(c)) / math.pi
    averages = _correlated_averages(_elementwise("relu"), 1.7, c)
    assert averages == pytest.approx((1.7 * kernel / 2, slope / 2), rel=1e-10)


def test_a_kink_away_from_zero_is_split():
    expected = mean_field(nn.Hardtanh(), 1.5, 0.05)
    linear = math.erf(1 / math.sqrt(2 * expected.q))
    square = expected.q * linear - math.exp(-1 / (2 * expected.q)) * math.sqrt(2 * expected.q / math.pi) + 1 - linear
    assert expected.chi == pytest.approx(1.5 * linear, rel=1e-12)
    assert expected.q == pytest.approx(0.05 + 1.5 * square, rel=1e-12)


@pytest.mark.parametrize(
    ("activation", "sigma_w2", "sigma_b2", "q", "chi", "xi"),
    [
        ("tanh", 0.5, 0.0, 0, 0.5, 1 / math.log(2)),
        ("tanh", 1.0, 0.0, 0, 1, math.inf),
        ("relu", 1.5, 1e-8, 4e-8, 0.75, -1 / math.log(0.75)),
        ("relu", 1.5, 0.1, 0.4, 0.75, -1 / math.log(0.75)),  # sigma_b2 / (1 - sigma_w2 / 2)
        ("relu", 2 + 1e-15, 0.0, 1, 1, math.inf),  # as rounding leaves it
        ("relu", 2.0, 0.1, math.inf, 1, math.inf),
        ("leaky_relu", 4.0, 0.0, math.inf, 2 * (1 + 0.01**2), math.inf),
        ("gelu", 2.0, 0.0, 0, 0.5, 1 / math.log(2)),  # phi'(0) = 1/2
        ("gelu", 3.0, 0.0, math.inf, 1.5, math.inf),  # as ReLU
        ("identity", 1 - 1e-7, 0.0, 0, 1, math.inf),
        ("sigmoid", 0.0, 0.0, 0, 0, 0),
    ],
)
def test_functions_without_a_scale_and_limits_at_zero_and_infinity(activation, sigma_w2, sigma_b2, q, chi, xi):
    expected = mean_field(activation, sigma_w2, sigma_b2)
    assert expected.q == pytest.approx(q, rel=1e-12)
    assert (expected.chi, expected.xi, expected.c) == pytest.approx((chi, xi, 1), rel=1e-6)


def test_every_activation_with_a_name_has_a_theory():
    for name, activation in ACTIVATIONS.items():
        assert mean_field(name, 1.3, 0.2) == mean_field(activation.build(), 1.3, 0.2), name
    assert get_args(ActivationName) == tuple(ACTIVATIONS)


def test_a_module_is_left_as_it_was():
    prelu = nn.PReLU(init=0.5)
    with torch.inference_mode():
        assert mean_field(prelu, 1.6, 0.0).chi == pytest.approx(1, abs=1e-12)
    assert prelu.weight.dtype == torch.float32
    assert mean_field(nn.ReLU(inplace=True), 2.0) == mean_field("relu", 2.0)


def network(widths, sigma_w2, sigma_b2, seed):
    generator = torch.Generator().manual_seed(seed)
    for n_in, n_out, weight, bias in zip(widths[:-1], widths[1:], sigma_w2, sigma_b2, strict=True):
        w = torch.randn(n_in, n_out, generator=generator) * math.sqrt(weight / n_in)
        yield w, torch.randn(n_out, generator=generator) * math.sqrt(bias)


def delta_norms(functions, x, layers, seed):
    """|dL/dz| of each layer for L = sum(z V), V ~ N(0, 1)."""
    weight, bias = next(layers)
    zs = [(x @ weight + bias).requires_grad_()]
    for phi, (weight, bias) in zip(functions, layers, strict=True):
        zs.append(phi(zs[-1]) @ weight + bias)
    loss = (zs[-1] * torch.randn(zs[-1].shape, generator=torch.Generator().manual_seed(seed))).sum()
    return [delta.norm().item() for delta in torch.autograd.grad(loss, zs)]


def inputs(samples, width, q, seed):
    """Samples whose mean of x^2 is q."""
    x = torch.randn(samples, width, generator=torch.Generator().manual_seed(seed))
    return x * math.sqrt(q * width) / x.norm(dim=1, keepdim=True)


def measured_chi(phi, sigma_w2, sigma_b2, depth=100, width=1000):
    """The factor of |delta|^2 per interior layer, a geometric mean."""
    logs = []
    for seed in range(3):
        layers = network([width] * (depth + 1), [sigma_w2] * depth, [sigma_b2] * depth, seed)
        norms = delta_norms([phi] * (depth - 1), inputs(32, width, 1.0, seed + 100), layers, seed + 200)
        logs.append(2 * math.log(norms[5] / norms[-6]) / (depth - 11))
    return math.exp(fmean(logs))


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(1.0, 0.05), (4.0, 0.05), (6.25, 0.09)])
def test_gradients_of_100_tanh_layers_have_the_depth_scale_of_chi(sigma_w2, sigma_b2):
    expected = mean_field("tanh", sigma_w2, sigma_b2).chi
    assert math.log(measured_chi(torch.tanh, sigma_w2, sigma_b2)) == pytest.approx(math.log(expected), rel=0.03)


def test_gradients_of_100_relu_layers_have_hes_factor():
    assert math.sqrt(measured_chi(torch.relu, 2.0, 0.0)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("sigma_w2", "sigma_b2", "distance", "depth"), [(1.0, 0.05, 0.05, 20), (4.0, 0.05, 0.2, 10), (6.25, 0.09, 0.2, 8)]
)
def test_correlations_in_tanh_layers_have_the_depth_scale_xi(sigma_w2, sigma_b2, distance, depth):
    # One pair starts above c*, or equal, and one below: in the gap the map's curvature and the common noise cancel.
    expected = mean_field("tanh", sigma_w2, sigma_b2)
    width, gaps = 1000, []
    for seed in range(3):
        first, other = inputs(1000, width, expected.q, seed + 100).chunk(2)
        other = other - (other * first).mean(1, keepdim=True) / expected.q * first
        other *= math.sqrt(expected.q * width) / other.norm(dim=1, keepdim=True)
        cs = expected.c - distance, min(expected.c + distance, 1.0)
        z = torch.cat([first, *(c * first + math.sqrt(1 - c**2) * other for c in cs)])
        for weight, bias in network([width] * (depth + 1), [sigma_w2] * depth, [sigma_b2] * depth, seed):
            z = z.tanh() @ weight + bias
        first, below, above = z.chunk(3)
        gaps.append((torch.cosine_similarity(first, above) - torch.cosine_similarity(first, below)).mean().item())
    assert depth / math.log((cs[1] - cs[0]) / fmean(gaps)) == pytest.approx(expected.xi, rel=0.05)


def test_expected_factors_of_a_network_whose_widths_and_activations_differ():
    widths = [400, 1000, 700, 1300, 500, 900]
    functions = {"tanh": torch.tanh, "relu": torch.relu, "gelu": nn.functional.gelu, "sigmoid": torch.sigmoid}
    sigma_w2, sigma_b2 = [1.5, 3.0, 0.7, 2.0, 1.2], [0.7, 0.0, 0.5, 0.2, 0.3]
    logs = []
    for seed in range(20):
        layers = network(widths, sigma_w2, sigma_b2, seed)
        norms = delta_norms(list(functions.values()), inputs(32, 400, 2.3, seed + 100), layers, seed + 200)
        logs.append([math.log(before / after) for before, after in pairwise(norms)])
    measured = np.exp(np.mean(logs, axis=0))
    expected = expected_factors(list(functions), sigma_w2, sigma_b2, q0=2.3)
    assert measured == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_field("rleu", 1), "unknown activation 'rleu'; did you mean 'relu'?"),
        (lambda: mean_field("tanh", -1), "sigma_w2 is -1; it must be finite and at least 0"),
        (lambda: mean_field("tanh", 1, math.nan), "sigma_b2 is nan; it must be finite and at least 0"),
        (lambda: mean_field(nn.Softmax(dim=0), 1), "Softmax(dim=0) is no finite function of each element"),
        (lambda: mean_field(nn.Dropout(), 1), "Dropout(p=0.5, inplace=False) is no finite function of each element"),
        (lambda: expected_factors(["tanh"], [1, 1], [0, 0], math.inf), "q0 is inf; it must be finite"),
        (lambda: expected_factors(["tanh"], [1], [0], 1), "1, 1 and 1 values of sigma_w2, sigma_b2 and activations"),
        (lambda: batchnorm_explosion(3), "batch_size is 3; it must be a whole number of at least 4, or inf"),
        (lambda: batchnorm_explosion(4.5), "batch_size is 4.5; it must be a whole number"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)
