import math
from functools import partial

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from unvanish.formulas.regularization import (
    dropout,
    dropout_backward,
    dropout_mask,
    dropout_mean_variance,
    l2,
    l2_gradient,
)

SEEDS, PROBABILITIES, WIDTHS = st.integers(0, 2**31), st.floats(0, 0.99), st.integers(1, 7)

assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
draws = settings(max_examples=25, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def test_l2_of_a_loss_that_is_no_scalar_is_refused():
    with pytest.raises(ValueError, match=r"the loss is \(7,\)"):
        l2(torch.ones(7), [torch.ones(3, 2)], 0.1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mean_and_variance_of_a_large_sample(p):
    draws, a = 100_003, torch.tensor([-3.0, 0.5, 2.0], dtype=torch.float64)
    rows = a.expand(draws, 3).contiguous()
    sample = dropout(rows, dropout_mask(rows, p, seeded()), p)
    mean, variance = dropout_mean_variance(a, p)
    assert ((sample.mean(dim=0) - mean).abs() < 5 * (variance / draws).sqrt()).all()
    squares = (sample - mean) ** 2  # their mean estimates the variance; so their spread is its standard error
    assert ((squares.mean(dim=0) - variance).abs() <= 5 * squares.std(dim=0) / math.sqrt(draws)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_mask_keeps_each_element_on_its_own_with_probability_1_minus_p(dtype):
    a, p = torch.ones(1009, 101, dtype=dtype), 0.3
    mask = dropout_mask(a, p, seeded())
    assert mask.dtype == dtype
    assert ((mask == 0) | (mask == 1)).all()
    kept = mask.double()
    variance = p * (1 - p)
    for axis in range(2):
        spread = 5 * math.sqrt(variance / a.shape[axis])
        assert ((kept.mean(dim=axis) - 0.7).abs() < spread).all()
        beside = (kept - 0.7) * (kept - 0.7).roll(1, dims=axis)
        assert abs(beside.mean()) < 5 * variance / math.sqrt(a.numel())
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(variance / a.numel())


def test_the_mask_is_the_generators():
    a, generator = torch.ones(11, 7), seeded()
    first, second = dropout_mask(a, 0.5, generator), dropout_mask(a, 0.5, generator)
    assert torch.equal(first, dropout_mask(a, 0.5, seeded()))
    assert not torch.equal(first, second)
    assert torch.equal(a, torch.ones(11, 7))


def test_without_dropout_nothing_changes():
    a = normal(5, 3)
    mask = dropout_mask(a, 0, seeded())
    assert torch.equal(dropout(a, mask, 0), a)
    assert torch.equal(dropout_mean_variance(a, 0).variance, torch.zeros(5, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_stays(dtype):
    a = torch.ones(5, 3, dtype=dtype)
    mask = dropout_mask(a, 0.5, seeded())
    found = [dropout(a, mask, 0.5), dropout_backward(a, mask, 0.5), *dropout_mean_variance(a, 0.5)]
    found += [l2(a.sum(), [a], 0.1), l2_gradient(a, 0.1)]
    assert {tensor.dtype for tensor in found} == {dtype}


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_a_p_outside_0_to_1_is_refused(p):
    a = torch.ones(5)
    calls = [
        lambda: dropout_mask(a, p, seeded()),
        lambda: dropout(a, a, p),
        lambda: dropout_backward(a, a, p),
        lambda: dropout_mean_variance(a, p),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            call()


@pytest.mark.parametrize("forward_or_backward", [dropout, dropout_backward])
def test_a_mask_that_samples_would_share_is_refused(forward_or_backward):
    with pytest.raises(ValueError, match=r"the mask is \(3,\)"):
        forward_or_backward(torch.ones(5, 3), torch.ones(3), 0.5)
