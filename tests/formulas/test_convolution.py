import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unvanish.formulas.convolution import (
    average_pool,
    average_pool_backward,
    convolution,
    convolution_backward,
    max_pool,
    max_pool_backward,
    output_size,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def drawn(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_a_convolution_is_the_sum_in_its_docstring():
    x, W, b = drawn(7, (2, 3, 5, 7), (2, 3, 3, 2), (2,))
    stride, padding = 2, 1

    def pixel(n, c, i, j):
        return x[n, c, i, j] if 0 <= i < 5 and 0 <= j < 7 else 0

    def value(n, o, i, j):
        offsets = [(c, u, v) for c in range(3) for u in range(3) for v in range(2)]
        return b[o] + sum(
            W[o, c, u, v] * pixel(n, c, i * stride + u - padding, j * stride + v - padding) for c, u, v in offsets
        )

    found = convolution(x, W, b, stride, padding)
    assert found.shape == (2, 2, 3, 4)
    expected = [[[[value(n, o, i, j) for j in range(4)] for i in range(3)] for o in range(2)] for n in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **CLOSE)


def test_the_kernel_is_not_mirrored():
    x, W = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3), torch.tensor([1.0, 10.0]).view(1, 1, 1, 2)
    assert convolution(x, W, torch.zeros(1)).flatten().tolist() == [21.0, 32.0]


def test_pixels_that_no_kernel_sees_have_no_gradient():
    x, W, delta = drawn(5, (1, 1, 5, 6), (1, 1, 2, 2), (1, 1, 2, 2))
    dx, _, _ = convolution_backward(delta, x, W, stride=3)
    seen = torch.tensor([0, 1, 3, 4])
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[seen.unsqueeze(1), seen] = True
    assert torch.equal(dx[0, 0] != 0, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_output_size_counts_the_places_of_the_kernel(n, k, stride, padding):
    starts = [i for i in range(0, n + 2 * padding, stride) if i + k <= n + 2 * padding]
    if starts:
        assert output_size(n, k, stride, padding) == len(starts)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            output_size(n, k, stride, padding)


def test_of_equal_pixels_the_first_has_all_the_gradient():
    found = max_pool_backward(torch.tensor([[[[5.0]]]]), torch.tensor([[[[1.0, 3.0], [3.0, 3.0]]]]), 2)
    assert found.tolist() == [[[[0.0, 5.0], [0.0, 0.0]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_arguments_do_not_change(dtype):
    inputs = [tensor.to(dtype) for tensor in drawn(3, (2, 3, 5, 7), (2, 3, 3, 2), (2,), (2, 2, 5, 8), (2, 3, 2, 3))]
    before = [tensor.clone() for tensor in inputs]
    x, W, b, delta, pooled = inputs
    found = [convolution(x, W, b, padding=1), *convolution_backward(delta, x, W, padding=1)]
    found += [max_pool(x, 2), max_pool_backward(pooled, x, 2), average_pool(x, 2), average_pool_backward(pooled, x, 2)]
    assert {tensor.dtype for tensor in found} == {dtype}
    assert all(torch.equal(*pair) for pair in zip(before, inputs, strict=True))


x, W, b = drawn(3, (2, 3, 5, 7), (2, 3, 3, 2), (2,))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: convolution(x, W[:, :1], b), r"W has shape \(2, 1, 3, 2\): must be \(2, 3, 3, 2\)"),
        (lambda: convolution(x[:, :1], W, b), r"W has shape \(2, 3, 3, 2\): must be \(2, 1, 3, 2\)"),
        (lambda: convolution(x, W, b[:1]), r"b has shape \(1,\): must be \(2,\)"),
        (lambda: convolution(x[:, :, :2], W, b), "a kernel of 3 does not fit into 2 pixels"),
        (lambda: convolution(x, W, b, stride=0), "stride=0"),
        (lambda: convolution_backward(x[:, :1, :3, :6], x, W), r"delta has shape .* must be \(2, 2, 3, 6\)"),
        (lambda: convolution_backward(x[:, :2, :1, :1], x, W), r"delta has shape .* must be \(2, 2, 3, 6\)"),
        (lambda: convolution_backward(x[:, :2, :3, :6], x, W[:, :1]), "W has shape"),
        (lambda: max_pool(x, 6), "a kernel of 6 does not fit into 5 pixels"),
        (lambda: max_pool_backward(x[:, :, :1, :1], x, 2), r"delta has shape .* must be \(2, 3, 2, 3\)"),
        (lambda: average_pool_backward(x[:, :, :1, :1], x, 2), r"delta has shape .* must be \(2, 3, 2, 3\)"),
        (lambda: output_size(5, 3, padding=-1), "padding=-1 at least 0"),
    ],
)
def test_what_torch_would_broadcast_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
