import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unvanish.formulas import activations

EXACT = {"rtol": 1e-10, "atol": 1e-10}
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TORCH = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "leaky_relu": F.leaky_relu}
ELEMENTWISE = pytest.mark.parametrize("name", TORCH)
DERIVATIVES = {name: getattr(activations, f"{name}_derivative") for name in ("sigmoid", "tanh", "relu", "leaky_relu")}
few = settings(max_examples=25, deadline=None, database=None)


def tensors(min_dims=1, size=50.0):
    """Tensors of one to three axes, 1 to 7 long, with elements in [-size, size]."""
    shapes = array_shapes(min_dims=min_dims, max_dims=3, max_side=7)
    return arrays(np.float64, shapes, elements=st.floats(-size, size)).map(torch.tensor)


def gradient(f, z, delta=None):
    """Autograd's dL/dz where dL/df(z) is delta, by default all ones."""
    z = z.clone().requires_grad_()
    a = f(z)
    return torch.autograd.grad(a, z, torch.ones_like(a) if delta is None else delta)[0]


def test_at_the_kink_the_derivative_is_the_left_one():
    zero = torch.tensor([0.0, -0.0], dtype=torch.float64)
    assert activations.relu_derivative(zero).tolist() == [0, 0]
    assert activations.leaky_relu_derivative(zero).tolist() == [0.01, 0.01]
    assert activations.leaky_relu_derivative(zero, slope=0.3).tolist() == [0.3, 0.3]


@ELEMENTWISE
def test_autograd_through_the_formula_is_the_derivative_also_at_0(name):
    z = torch.tensor([-3.0, -0.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(gradient(getattr(activations, name), z), DERIVATIVES[name](z), **EXACT)


@PRECISIONS
@pytest.mark.parametrize(
    ("name", "values", "derivatives"),
    [
        ("sigmoid", [0, 1], [0, 0]),
        ("log_sigmoid", [-1e4, 0], None),
        ("tanh", [-1, 1], [0, 0]),
        ("relu", [0, 1e4], [0, 1]),
        ("leaky_relu", [-100, 1e4], [0.01, 1]),
    ],
)
def test_ten_thousand_has_its_value(name, values, derivatives, dtype):
    z = torch.tensor([-1e4, 1e4], dtype=dtype)
    assert torch.equal(getattr(activations, name)(z), torch.tensor(values, dtype=dtype))
    if derivatives is not None:
        assert torch.equal(DERIVATIVES[name](z), torch.tensor(derivatives, dtype=dtype))


def test_a_saturated_derivative_is_small_and_not_0():
    z = torch.tensor([-300.0, -40.0, 40.0, 300.0], dtype=torch.float64)
    expected = [math.exp(-abs(t)) for t in z.tolist()]
    torch.testing.assert_close(activations.sigmoid_derivative(z).tolist(), expected, rtol=1e-12, atol=0)
    expected = [4 * math.exp(-2 * abs(t)) for t in z.tolist()]
    torch.testing.assert_close(activations.tanh_derivative(z).tolist(), expected, rtol=1e-12, atol=0)


@PRECISIONS
def test_the_tanh_of_a_small_number_keeps_its_digits(dtype):
    z = torch.tensor([-1e-20, -1e-9, 0, 1e-9, 1e-20], dtype=dtype)
    torch.testing.assert_close(activations.tanh(z), z, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_the_slope_at_0_is_a_quarter_of_sigmoid_and_1_of_tanh():
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for derivative, largest in ((activations.sigmoid_derivative(z), 1 / 4), (activations.tanh_derivative(z), 1)):
        assert derivative.argmax() == 3
        assert derivative.max() == largest


@few
@given(z=tensors(min_dims=2), data=st.data())
def test_softmax_backward_is_the_transposed_jacobian_of_each_row(z, data):
    delta = torch.tensor(data.draw(arrays(np.float64, tuple(z.shape), elements=st.floats(-5, 5))))
    expected = torch.einsum("...ij,...i->...j", activations.softmax_jacobian(z), delta)
    torch.testing.assert_close(activations.softmax_backward(delta, z), expected, **EXACT)


@PRECISIONS
def test_softmax_of_ten_thousand_has_its_value(dtype):
    z = torch.tensor([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]], dtype=dtype)
    third = 1 / torch.tensor(3, dtype=dtype)
    expected = torch.stack([torch.tensor([1, 0, 0], dtype=dtype), third.expand(3)])
    assert torch.equal(activations.softmax(z), expected)
    log3 = torch.tensor(3, dtype=dtype).log()
    expected_log = torch.stack([torch.tensor([0, -1e4, -2e4], dtype=dtype), -log3.expand(3)])
    torch.testing.assert_close(activations.log_softmax(z), expected_log)
    assert torch.equal(activations.softmax_jacobian(z[0]), torch.zeros(3, 3, dtype=dtype))
    assert torch.equal(activations.softmax_backward(torch.tensor([2, 3, 5], dtype=dtype), z[0]), torch.zeros_like(z[0]))


def test_log_softmax_keeps_a_small_difference_of_large_logits():
    z = torch.tensor([1e4, 1e4 - 1])
    expected = torch.tensor([-math.log1p(math.exp(-1)), -1 - math.log1p(math.exp(-1))])
    torch.testing.assert_close(activations.log_softmax(z), expected, rtol=1e-6, atol=0)


def test_a_masked_logit_has_probability_0():
    z = torch.tensor([[2.0, -math.inf, 2.0]], dtype=torch.float64)
    assert activations.softmax(z).tolist() == [[0.5, 0, 0.5]]


# softmax is for outputs only: what its docstring claims


@few
@given(z=tensors())
def test_the_outputs_of_softmax_sum_to_1_whatever_is_added_to_the_logits(z):
    s = activations.softmax(z)
    torch.testing.assert_close(s.sum(dim=-1), torch.ones(z.shape[:-1], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(activations.softmax(z + 11), s, **EXACT)


@few
@given(z=tensors(size=5.0))
def test_a_unit_of_softmax_grows_at_the_others_cost(z):
    jacobian = activations.softmax_jacobian(z)
    own = torch.eye(z.shape[-1], dtype=torch.bool).expand_as(jacobian)
    assert (jacobian[~own] < 0).all()
    assert z.shape[-1] == 1 or (jacobian[own] > 0).all()


@few
@given(z=tensors(size=5.0))
def test_the_jacobian_of_softmax_loses_the_mean_and_a_rank(z):
    jacobian = activations.softmax_jacobian(z)
    ones = torch.ones(z.shape[-1], dtype=torch.float64)
    torch.testing.assert_close(jacobian @ ones, torch.zeros_like(z), **EXACT)
    torch.testing.assert_close(jacobian.mT, jacobian, rtol=0, atol=0)
    rank = torch.linalg.matrix_rank(jacobian, atol=1e-12, rtol=0)
    assert (rank == z.shape[-1] - 1).all()  # one below C: it loses the mean, and here nothing else
    torch.testing.assert_close(activations.softmax_backward(7 * torch.ones_like(z), z), torch.zeros_like(z), **EXACT)


@few
@given(z=tensors())
def test_no_entry_of_the_jacobian_of_softmax_exceeds_a_quarter(z):
    assert activations.softmax_jacobian(z).abs().max() <= 1 / 4 + 1e-15


def test_two_equal_logits_reach_the_quarter():
    jacobian = activations.softmax_jacobian(torch.zeros(2, dtype=torch.float64))
    assert jacobian.tolist() == [[0.25, -0.25], [-0.25, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays_and_so_does_the_argument(dtype):
    z = torch.tensor([[-11.0, -0.5, 0], [2, 3, 11]], dtype=dtype)
    before = z.clone()
    names = ["log_sigmoid", "softmax", "log_softmax", "softmax_jacobian", *TORCH, *(f"{n}_derivative" for n in TORCH)]
    for name in names:
        a = getattr(activations, name)(z)
        assert a.dtype == dtype, name
        assert a.isfinite().all(), name
        assert name == "softmax_jacobian" or a.shape == z.shape, name
    assert activations.softmax_backward(z, z).dtype == dtype
    assert torch.equal(z, before)


def test_a_delta_that_would_broadcast_is_refused():
    z = torch.zeros(5, 3)
    for shape in [(3,), (5, 1), (1, 3)]:
        with pytest.raises(ValueError, match="delta must have the shape of z"):
            activations.softmax_backward(torch.zeros(shape), z)
