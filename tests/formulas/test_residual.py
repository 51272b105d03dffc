import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unvanish.formulas.activations import sigmoid, sigmoid_derivative
from unvanish.formulas.residual import (
    plain_product,
    residual,
    residual_backward,
    residual_derivative,
    residual_jacobian,
    residual_product,
)
from unvanish.formulas.vanishing import sigmoid_bound

SETTINGS = settings(max_examples=25, deadline=None)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@st.composite
def matrices(draw, count=1):
    """``count`` matrices (B, n), and one (n, n)."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 7))

    def matrix(rows, columns):
        values = draw(st.lists(st.floats(-3, 3), min_size=rows * columns, max_size=rows * columns))
        return torch.tensor(values, dtype=torch.float64).view(rows, columns)

    return *(matrix(rows, columns) for _ in range(count)), matrix(columns, columns)


def chain(step, x, blocks=20):
    """The x_l that go into each block, and autograd's dx_L/dx_0 of each sample."""
    leaf = x.clone().requires_grad_()
    xs = [leaf]
    for _ in range(blocks):
        xs.append(step(xs[-1]))
    (derivative,) = torch.autograd.grad(xs[-1].sum(), leaf)
    return torch.stack(xs[:-1]).detach(), derivative


@SETTINGS
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7))
def test_a_chain_of_twenty_sigmoids_vanishes_and_the_residual_chain_does_not(values):
    x = torch.tensor(values, dtype=torch.float64)

    xs, plain = chain(torch.sigmoid, x)
    product = plain_product(sigmoid_derivative(xs))
    torch.testing.assert_close(product, plain, rtol=1e-10, atol=0)
    assert (product.abs() <= sigmoid_bound(20) * (1 + 1e-12)).all()  # 9.1e-13

    xs, shortcut = chain(lambda x: residual(x, torch.sigmoid), x)
    product = residual_product(sigmoid_derivative(xs))
    torch.testing.assert_close(product, shortcut, **CLOSE)
    assert ((product >= 1) & (product <= 1.25**20)).all()


def test_products_in_closed_form():
    derivatives = torch.tensor([[0.5, -1.0], [0.25, 3.0], [0.0, 2.0]], dtype=torch.float64)
    assert plain_product(derivatives).tolist() == [0.0, -6.0]
    assert residual_product(derivatives).tolist() == [1.5 * 1.25, 0.0]  # F' = -1 undoes the shortcut
    assert residual_product(sigmoid_derivative(torch.zeros(20, dtype=torch.float64))).item() == pytest.approx(1.25**20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_stays(dtype):
    x, J = torch.ones(3, dtype=dtype), torch.ones(2, 5, 5, dtype=dtype)
    assert residual(x, sigmoid).dtype == residual_jacobian(J).dtype == residual_product(x).dtype == dtype
    assert residual_backward(x, sigmoid).dtype == residual_derivative(x).dtype == dtype
    torch.testing.assert_close(x, torch.ones(3, dtype=dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residual(torch.ones(3, 5), lambda x: x.sum(1, keepdim=True)), r"F makes \(3, 1\) of \(3, 5\)"),
        (lambda: residual_backward(torch.ones(3, 1), lambda d: d.expand(3, 5)), r"dF makes \(3, 5\) of \(3, 1\)"),
        (lambda: residual_jacobian(torch.ones(1, 5)), r"J has shape \(1, 5\): must be \(..., n, n\)"),
        (lambda: residual_jacobian(torch.ones(5)), r"J has shape \(5,\)"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_gradient_that_the_block_kills_still_passes():
    delta = torch.tensor([0.3, -math.pi], dtype=torch.float64)
    torch.testing.assert_close(residual_backward(delta, torch.zeros_like), delta)
