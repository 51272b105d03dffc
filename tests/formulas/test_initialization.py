import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unvanish.formulas.initialization import (
    draw_normal,
    he_variance,
    lecun_variance,
    uniform_bound,
    xavier_variance,
)

FANS = given(fan_in=st.integers(1, 97), fan_out=st.integers(1, 97))
SETTINGS = settings(max_examples=25, deadline=None)


def seeded():
    return torch.Generator().manual_seed(7)


@SETTINGS
@FANS
def test_xavier_is_the_compromise_of_both_passes(fan_in, fan_out):
    forward, backward = (fan * xavier_variance(fan_in, fan_out) for fan in (fan_in, fan_out))
    assert (forward + backward) / 2 == pytest.approx(1, rel=1e-12)
    assert (fan_in == fan_out) == (forward == pytest.approx(1, rel=1e-12))


def test_a_drawn_weight_is_torchs_of_that_variance():
    W = draw_normal(17, 29, 0.04, seeded())
    torch.testing.assert_close(W, nn.init.normal_(torch.empty(17, 29), 0, 0.2, generator=seeded()))
    generator = seeded()
    assert not torch.equal(draw_normal(17, 29, 0.04, generator), draw_normal(17, 29, 0.04, generator))


def test_uniform_draws_within_the_bound_have_the_variance():
    draws = torch.empty(100_003, dtype=torch.float64).uniform_(-1, 1, generator=seeded()) * uniform_bound(0.3)
    # The variance of x^2 is r^4 (1/5 - 1/9) = 0.8 * 0.3^2: the mean of 100,003 has a relative standard error of 0.0028.
    assert draws.square().mean().item() == pytest.approx(0.3, rel=4 * math.sqrt(0.8 / 100_003))


def variances(activation, weight_variance, n=1009, layers=11):
    """Mean squares over n units and 32 samples: of z from the first layer to the last, of dL/dz from the last to it."""
    generator, zs = seeded(), []
    a = torch.randn(32, n, generator=generator)
    for _ in range(layers):
        zs.append((a @ draw_normal(n, n, weight_variance, generator).T).requires_grad_())
        a = activation(zs[-1])
    deltas = torch.autograd.grad((zs[-1] * torch.randn(32, n, generator=generator)).sum(), zs)
    return [torch.stack(tensors).square().mean((1, 2)) for tensors in (zs, deltas[::-1])]


# The logarithm of the factor of a sample's mean square has the variance 5 / n in a ReLU layer (Hanin and Nica 2018),
# 2 / n in a linear one. The mean over 10 layers has a standard error of at most sqrt(5 / (1009 * 10)) = 0.022.
@pytest.mark.parametrize(
    ("activation", "variance", "factor"),
    [
        (torch.relu, he_variance(1009), 1),
        (torch.relu, lecun_variance(1009), 1 / 2),
        (torch.relu, xavier_variance(1009, 1009), 1 / 2),
        (lambda z: z * 1, xavier_variance(1009, 1009), 1),
    ],
)
def test_ten_wide_layers_keep_the_variance_or_halve_it_forward_and_backward(activation, variance, factor):
    for squares in variances(activation, variance):
        per_layer = (squares[-1] / squares[0]).log().item() / 10
        assert per_layer == pytest.approx(math.log(factor), abs=4 * 0.022)


def test_the_first_layer_of_standardized_inputs_has_variance_one_by_lecun():
    forward, _ = variances(torch.relu, lecun_variance(1009), layers=1)
    # A mean of 32 * 1009 squares of normal z, at lengths |x|^2 that are means of as many: each of relative variance
    # 2 / (32 * 1009), the standard error is 0.011.
    assert forward.item() == pytest.approx(1, abs=4 * math.sqrt(4 / (32 * 1009)))
