import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unvanish.formulas import losses
from unvanish.formulas.activations import sigmoid, softmax

EXACT = {"rtol": 1e-10, "atol": 1e-10}
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
ALL = [
    "binary_cross_entropy",
    "binary_cross_entropy_derivative",
    "binary_cross_entropy_of_probability",
    "categorical_cross_entropy",
    "categorical_cross_entropy_derivative",
    "categorical_cross_entropy_of_probability",
    "mean_squared_error",
    "mean_squared_error_derivative",
]
few = settings(max_examples=25, deadline=None, database=None)


@st.composite
def pairs(draw, prediction, target, min_dims=1, max_dims=3):
    """Two tensors of one shape, their elements in these intervals."""
    shape = draw(array_shapes(min_dims=min_dims, max_dims=max_dims, max_side=7))
    return [torch.tensor(draw(arrays(np.float64, shape, elements=st.floats(*s)))) for s in (prediction, target)]


def gradient(f, prediction):
    prediction = prediction.clone().requires_grad_()
    return torch.autograd.grad(f(prediction), prediction)[0]


@few
@given(pairs((-50, 50), (0, 1), min_dims=2, max_dims=2))
def test_categorical_cross_entropy_is_torchs_for_classes(pair):
    z, y = pair
    classes = y.argmax(dim=-1)
    one_hot = F.one_hot(classes, z.shape[-1])
    torch.testing.assert_close(losses.categorical_cross_entropy(z, one_hot), F.cross_entropy(z, classes), **EXACT)
    expected = gradient(lambda z: F.cross_entropy(z, classes), z)
    torch.testing.assert_close(losses.categorical_cross_entropy_derivative(z, one_hot), expected, **EXACT)


@few
@given(pairs((-15, 15), (0.01, 1)))
def test_both_forms_agree_where_neither_breaks(pair):
    z, y = pair
    found = losses.binary_cross_entropy_of_probability(sigmoid(z), y)
    torch.testing.assert_close(found, losses.binary_cross_entropy(z, y), rtol=1e-8, atol=1e-8)  # 1 - y_hat cancels
    y = y / y.sum(dim=-1, keepdim=True)
    found = losses.categorical_cross_entropy_of_probability(softmax(z), y)
    torch.testing.assert_close(found, losses.categorical_cross_entropy(z, y), **EXACT)


def test_values_by_hand():
    half, quarter = torch.tensor([0.5], dtype=torch.float64), torch.full((1, 4), 0.25, dtype=torch.float64)
    assert losses.binary_cross_entropy_of_probability(half, torch.ones(1)).item() == pytest.approx(math.log(2))
    assert losses.binary_cross_entropy(torch.zeros(1), torch.ones(1)).item() == pytest.approx(math.log(2))
    y = torch.tensor([[0, 0, 1, 0]])
    assert losses.categorical_cross_entropy_of_probability(quarter, y).item() == pytest.approx(math.log(4))
    assert losses.categorical_cross_entropy(torch.zeros(1, 4), y).item() == pytest.approx(math.log(4))
    assert losses.mean_squared_error(torch.tensor([[2.0, 3], [5, 7]]), torch.ones(2, 2)).item() == (1 + 4 + 16 + 36) / 4


@PRECISIONS
def test_a_logit_of_ten_thousand_is_right_or_costs_ten_thousand(dtype):
    for z, y, loss, derivative in [(1e4, 1, 0, 0), (-1e4, 0, 0, 0), (1e4, 0, 1e4, 1), (-1e4, 1, 1e4, -1)]:
        arguments = torch.tensor([z], dtype=dtype), torch.tensor([y], dtype=dtype)
        assert losses.binary_cross_entropy(*arguments).item() == loss
        assert losses.binary_cross_entropy_derivative(*arguments).tolist() == [derivative]


@PRECISIONS
def test_logits_of_ten_thousand_are_right_or_cost_their_difference(dtype):
    z = torch.tensor([[1e4, 0, -1e4]], dtype=dtype)
    for c, loss, derivative in [(0, 0, [0, 0, 0]), (1, 1e4, [1, -1, 0]), (2, 2e4, [1, 0, -1])]:
        y = F.one_hot(torch.tensor([c]), 3).to(dtype)
        assert losses.categorical_cross_entropy(z, y).item() == loss
        assert losses.categorical_cross_entropy_derivative(z, y).tolist() == [derivative]


@PRECISIONS
def test_mean_squared_error_of_ten_thousand(dtype):
    y_hat, y = torch.tensor([1e4, -1e4], dtype=dtype), torch.tensor([-1e4, -1e4], dtype=dtype)
    assert losses.mean_squared_error(y_hat, y).item() == 2e8
    assert losses.mean_squared_error_derivative(y_hat, y).tolist() == [2e4, 0]


def test_a_confident_and_right_logit_costs_little_but_not_nothing():
    z, y = torch.tensor([40.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert losses.binary_cross_entropy(z, y).item() == pytest.approx(math.exp(-40), rel=1e-12, abs=0)


@PRECISIONS
def test_the_textbooks_binary_form_breaks_where_sigmoid_is_rounded(dtype):
    z = torch.tensor([1e4], dtype=dtype)
    y_hat = sigmoid(z)
    assert losses.binary_cross_entropy_of_probability(y_hat, torch.zeros_like(z)).item() == math.inf
    assert losses.binary_cross_entropy_of_probability(y_hat, torch.ones_like(z)).isnan()
    assert losses.binary_cross_entropy_of_probability(1 - y_hat, torch.ones_like(z)).item() == math.inf
    assert losses.binary_cross_entropy_of_probability(1 - y_hat, torch.zeros_like(z)).isnan()


@PRECISIONS
def test_the_textbooks_categorical_form_breaks_where_softmax_is_rounded(dtype):
    y_hat = softmax(torch.tensor([[1e4, 0]], dtype=dtype))
    wrong, right = torch.tensor([[0, 1], [1, 0]], dtype=dtype).split(1)
    assert losses.categorical_cross_entropy_of_probability(y_hat, wrong).item() == math.inf
    assert losses.categorical_cross_entropy_of_probability(y_hat, right).isnan()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shapes", [[(5, 3), (5, 1)], [(5, 3), (3,)], [(5,), (5, 1)], [(5, 1), (5,)], [(5,), ()]])
def test_shapes_that_would_broadcast_are_refused(name, shapes):
    prediction, y = (torch.full(shape, 0.5) for shape in shapes)
    with pytest.raises(ValueError, match=r"y has shape .* they must be the same"):
        getattr(losses, name)(prediction, y)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays_and_so_do_the_arguments(name, dtype):
    prediction, y = (torch.tensor(t, dtype=dtype) for t in ([[0.125, 0.875]], [[0.25, 0.75]]))
    before = prediction.clone(), y.clone()
    found = getattr(losses, name)(prediction, y)
    assert found.dtype == dtype
    assert found.shape == (prediction.shape if name.endswith("derivative") else ())
    assert torch.equal(prediction, before[0])
    assert torch.equal(y, before[1])
