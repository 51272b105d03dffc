"""Convolution and pooling, beside torch.nn.functional and autograd."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds

_small = st.integers(1, 3)


@st.composite
def _convolutions(draw: Any) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """x, W, b, stride, padding."""
    padding, stride = draw(st.integers(0, 2)), draw(_small)
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = (draw(st.integers(max(1, k - 2 * padding), 7)) for k in (kh, kw))
    samples, channels, outputs = draw(_small), draw(_small), draw(_small)
    x, W, b = drawn(draw(seeds), (samples, channels, height, width), (outputs, channels, kh, kw), (outputs,))
    return x, W, b, stride, padding


@st.composite
def _pools(draw: Any) -> tuple[Tensor, int]:
    """x of small whole numbers, so that many are equal, and the size of a window."""
    size = draw(st.integers(1, 4))
    height, width = draw(st.integers(size, 9)), draw(st.integers(size, 9))
    (x,) = drawn(draw(seeds), (draw(_small), draw(_small), height, width))
    return x.round(), size


@few
@given(n=st.integers(1, 30), k=st.integers(1, 7), stride=st.integers(1, 5), padding=st.integers(0, 3))
def output_size(f: Function, n: int, k: int, stride: int, padding: int) -> None:
    """The places of the kernel, counted."""
    places = [start for start in range(0, n + 2 * padding, stride) if start + k <= n + 2 * padding]
    if places:
        same(f(n, k, stride, padding), len(places), f"places of n={n}, k={k}, s={stride}, p={padding}", "counting")


@few
@given(case=_convolutions())
def convolution(f: Function, case: tuple[Tensor, Tensor, Tensor, int, int]) -> None:
    """torch's conv2d."""
    same(f(*case), F.conv2d(*case), "y")


@few
@given(case=_convolutions())
def convolution_backward(f: Function, case: tuple[Tensor, Tensor, Tensor, int, int]) -> None:
    """Autograd's through torch's conv2d."""
    x, W, b, stride, padding = case
    (delta,) = drawn(7, F.conv2d(*case).shape)
    expected = autograd(lambda x, W, b: F.conv2d(x, W, b, stride, padding), delta, x, W, b)
    same(f(delta, x, W, stride, padding), expected, "(dL/dx, dL/dW, dL/db)", "autograd")


def _pool(torchs: Function) -> Function:
    """The proof of a pooling: torch's."""

    @few
    @given(case=_pools())
    def proof(f: Function, case: tuple[Tensor, int]) -> None:
        same(f(*case), torchs(*case), "y")

    return proof


def _pool_backward(torchs: Function) -> Function:
    """The proof of its gradient: autograd's, also where several pixels of a window are equally large."""

    @few
    @given(case=_pools())
    def proof(f: Function, case: tuple[Tensor, int]) -> None:
        x, size = case
        (delta,) = drawn(7, torchs(x, size).shape)
        (expected,) = autograd(lambda x: torchs(x, size), delta, x)
        same(f(delta, x, size), expected, "dL/dx", "autograd")

    return proof


max_pool, max_pool_backward = _pool(F.max_pool2d), _pool_backward(F.max_pool2d)
average_pool, average_pool_backward = _pool(F.avg_pool2d), _pool_backward(F.avg_pool2d)
