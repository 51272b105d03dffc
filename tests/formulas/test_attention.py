import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unvanish.formulas.attention import (
    attention,
    attention_backward,
    attention_weights,
    causal_mask,
    multi_head,
    multi_head_backward,
    sinusoidal_positions,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=25, deadline=None)


def drawn(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def drawn_mask(seed, *shape):
    """Some True in every row"""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(shape, generator=generator)
    return (ranks < 0.5) | (ranks == ranks.amin(-1, keepdim=True))


@st.composite
def cases(draw):
    """Q, K, V, delta, mask; with no, one or two leading axes"""
    leading = draw(st.lists(st.integers(1, 3), max_size=2))
    T, S, d, d_v = (draw(sizes) for _ in range(4))
    seed = draw(seeds)
    mask_shape = draw(st.sampled_from([None, (T, S), (1, S), (*leading, T, S), (*leading, 1, S)]))
    mask = None if mask_shape is None else drawn_mask(seed, *mask_shape)
    return *drawn(seed, *((*leading, *shape) for shape in ((T, d), (S, d), (S, d_v), (T, d_v)))), mask


@quick
@given(cases())
def test_each_query_shares_one_among_the_keys_it_may_look_at(case):
    Q, K, V, _, mask = case
    A = attention_weights(Q, K, mask)
    torch.testing.assert_close(A.sum(-1), torch.ones_like(A[..., 0]), **CLOSE)
    torch.testing.assert_close(A @ V, attention(Q, K, V, mask), **CLOSE)
    if mask is not None:
        assert torch.equal(A != 0, mask.expand_as(A))


def test_two_keys_by_hand():
    Q, K, V = torch.tensor([[4.0, 0, 0, 0]]), torch.eye(4)[:2] * math.log(3) / 2, torch.tensor([[1.0], [5.0]])
    # scores 4 log(3) / 2 / sqrt(4) = log 3, and 0: weights 3/4 and 1/4
    torch.testing.assert_close(attention_weights(Q, K), torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(attention(Q, K, V), torch.tensor([[2.0]]))


def test_a_causal_mask_is_torchs_is_causal():
    Q, K, V = drawn(5, (2, 3, 7, 5), (2, 3, 7, 5), (2, 3, 7, 5))
    mask = causal_mask(7, Q)
    assert mask.tolist() == [[s <= t for s in range(7)] for t in range(7)]
    expected = F.scaled_dot_product_attention(Q, K, V, is_causal=True)
    torch.testing.assert_close(attention(Q, K, V, mask), expected, **CLOSE)


def test_a_query_that_sees_nothing_is_refused():
    Q, K, V, delta = drawn(5, (2, 3, 5), (2, 3, 5), (2, 3, 5), (2, 3, 5))
    mask = causal_mask(3, Q) & torch.tensor([False, True, True])
    for call in (
        lambda: attention_weights(Q, K, mask),
        lambda: attention(Q, K, V, mask),
        lambda: attention_backward(delta, Q, K, V, mask),
    ):
        with pytest.raises(ValueError, match="lets a query look at nothing"):
            call()


def test_what_is_masked_has_neither_weight_nor_gradient_however_large():
    Q, K, V, delta = drawn(5, (3, 5), (3, 5), (3, 5), (3, 5))
    K[2], V[2] = 1e4, 1e4
    mask = torch.tensor([True, True, False])
    torch.testing.assert_close(attention(Q, K, V, mask), attention(Q, K[:2], V[:2]), **CLOSE)
    dQ, dK, dV = attention_backward(delta, Q, K, V, mask)
    expected = attention_backward(delta, Q, K[:2], V[:2])
    torch.testing.assert_close((dQ, dK[:2], dV[:2]), expected, **CLOSE)
    assert not dK[2].any()
    assert not dV[2].any()


def test_positions_have_torchs_dtype_or_that_of_a_tensor():
    assert sinusoidal_positions(3, 4).dtype == torch.float32
    found = sinusoidal_positions(258, 6, torch.empty(0, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert not torch.equal(found[256], found[257])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_arguments_do_not_change(dtype):
    inputs = [tensor.to(dtype) for tensor in drawn(3, *[(2, 5, 6)] * 4, *[(6, 6)] * 4)]
    inputs.append(causal_mask(5, inputs[0]))
    before = [tensor.clone() for tensor in inputs]
    Q, K, V, delta, *weights, mask = inputs
    found = [attention(Q, K, V, mask), *attention_backward(delta, Q, K, V, mask)]
    found += [multi_head(Q, *weights, 3, mask), *multi_head_backward(delta, Q, *weights, 3, mask)]
    assert {tensor.dtype for tensor in found} == {dtype}
    assert all(torch.equal(*pair) for pair in zip(before, inputs, strict=True))


Q, K, V, W = drawn(3, (2, 5, 6), (2, 7, 6), (2, 7, 3), (6, 6))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attention_weights(Q, K[0]), r"K has shape \(7, 6\): must be \(2, 7, 6\)"),
        (lambda: attention_weights(Q[0], K), r"K has shape \(2, 7, 6\): must be \(7, 6\)"),
        (lambda: attention_weights(Q, K[:1]), r"K has shape \(1, 7, 6\): must be \(2, 7, 6\)"),
        (lambda: attention(Q, K, V[0]), r"V has shape \(7, 3\): must be \(2, 7, 3\)"),
        (lambda: attention_backward(Q[:, :, :3], Q, K, V[:1]), "V has shape"),
        (lambda: attention_backward(Q[:1, :, :3], Q, K, V), r"delta has shape \(1, 5, 3\): must be \(2, 5, 3\)"),
        (lambda: attention_backward(Q[:, :1, :3], Q, K, V), r"delta has shape \(2, 1, 3\): must be \(2, 5, 3\)"),
        (lambda: multi_head_backward(Q[:1], Q, W, W, W, W, 2), "delta has shape"),
        (lambda: sinusoidal_positions(3, 5), "d=5 is odd"),
    ],
)
def test_what_torch_would_broadcast_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("mask", [torch.ones(3, 2, 5, 7, dtype=torch.bool), torch.ones(5, 6, dtype=torch.bool)])
def test_a_mask_does_not_add_axes(mask):
    with pytest.raises(RuntimeError, match="expand"):
        attention(Q, K, V, mask)


def test_heads_divide_the_features():
    with pytest.raises(RuntimeError, match="invalid"):
        multi_head(Q, W, W, W, W, 4)
