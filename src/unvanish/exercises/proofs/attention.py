"""Attention, beside torch's, masked and unmasked."""

import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes

_cases: Any = given(B=sizes, T=sizes, S=sizes, d=sizes, v=sizes, seed=seeds, is_masked=st.booleans())


def _mask(seed: int, *shape: int) -> Tensor:
    """True in about half of the places, and once at least in every row."""
    scores, first = drawn(seed, shape, shape)
    return (scores > 0) | F.one_hot(first.argmax(-1), shape[-1]).bool()


def _case(
    B: int, T: int, S: int, d: int, v: int, seed: int, is_masked: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    Q, K, V, delta = drawn(seed, (B, T, d), (B, S, d), (B, S, v), (B, T, v))
    return Q, K, V, delta, _mask(seed, T, S) if is_masked else None


@few
@_cases
def attention_weights(f: Function, B: int, T: int, S: int, d: int, v: int, seed: int, is_masked: bool) -> None:
    """torch's attention to values that are the unit vectors: what comes out is the weights."""
    Q, K, _, _, mask = _case(B, T, S, d, v, seed, is_masked)
    unit = torch.eye(S, dtype=torch.float64).expand(B, S, S)
    same(f(Q, K, mask), F.scaled_dot_product_attention(Q, K, unit, attn_mask=mask), "A")


@few
@_cases
def attention(f: Function, B: int, T: int, S: int, d: int, v: int, seed: int, is_masked: bool) -> None:
    """torch's scaled_dot_product_attention."""
    Q, K, V, _, mask = _case(B, T, S, d, v, seed, is_masked)
    same(f(Q, K, V, mask), F.scaled_dot_product_attention(Q, K, V, attn_mask=mask), "A V")


@few
@_cases
def attention_backward(f: Function, B: int, T: int, S: int, d: int, v: int, seed: int, is_masked: bool) -> None:
    """Autograd's through torch's."""
    Q, K, V, delta, mask = _case(B, T, S, d, v, seed, is_masked)
    expected = autograd(lambda Q, K, V: F.scaled_dot_product_attention(Q, K, V, attn_mask=mask), delta, Q, K, V)
    same(f(delta, Q, K, V, mask), expected, "(dL/dQ, dL/dK, dL/dV)", "autograd")


@few
@given(T=st.integers(1, 7))
def causal_mask(f: Function, T: int) -> None:
    """True where s <= t."""
    expected = torch.tensor([[s <= t for s in range(T)] for t in range(T)])
    same(f(T, torch.zeros(1)), expected, "the mask", "the proof")


def _heads(B: int, T: int, heads: int, K: int, seed: int, is_masked: bool) -> tuple[Any, list[Any], dict[str, Any]]:
    """torch's MultiheadAttention, what ours is given, and how torch is told of the mask."""
    D = heads * K
    module = nn.MultiheadAttention(D, heads, bias=False, batch_first=True).double()
    x, W_q, W_k, W_v, W_o = drawn(seed, (B, T, D), *[(D, D)] * 4)
    module.in_proj_weight.data, module.out_proj.weight.data = torch.cat([W_q, W_k, W_v]), W_o
    mask = _mask(seed, T, T) if is_masked else None
    hidden = {} if mask is None else {"attn_mask": ~mask}  # torch's is True where nothing may be seen
    return module, [x, W_q, W_k, W_v, W_o, heads, mask], hidden


_head_cases: Any = given(B=sizes, T=sizes, heads=sizes, K=sizes, seed=seeds, is_masked=st.booleans())


@few
@_head_cases
def multi_head(f: Function, B: int, T: int, heads: int, K: int, seed: int, is_masked: bool) -> None:
    """torch's MultiheadAttention."""
    module, inputs, hidden = _heads(B, T, heads, K, seed, is_masked)
    expected, _ = module(*inputs[:1] * 3, need_weights=False, **hidden)
    same(f(*inputs), expected, "the output")


@few
@_head_cases
def multi_head_backward(f: Function, B: int, T: int, heads: int, K: int, seed: int, is_masked: bool) -> None:
    """Autograd's through torch's MultiheadAttention."""
    module, inputs, hidden = _heads(B, T, heads, K, seed, is_masked)
    x = inputs[0].clone().requires_grad_()
    (delta,) = drawn(seed + 1, x.shape)
    output, _ = module(x, x, x, need_weights=False, **hidden)
    dx, d_in, dW_o = torch.autograd.grad(output, (x, module.in_proj_weight, module.out_proj.weight), delta)
    expected = dx, *d_in.chunk(3), dW_o
    same(f(delta, *inputs), expected, "(dL/dx, dL/dW_q, dL/dW_k, dL/dW_v, dL/dW_o)", "autograd")


@few
@given(T=st.integers(1, 30), pairs=st.integers(1, 10))
def sinusoidal_positions(f: Function, T: int, pairs: int) -> None:
    """Sines and cosines of Python's."""
    d = 2 * pairs
    values = [[g(t / 10000 ** (2 * i / d)) for i in range(pairs) for g in (math.sin, math.cos)] for t in range(T)]
    expected = torch.tensor(values, dtype=torch.float64)
    same(f(T, d, torch.empty(0, dtype=torch.float64)), expected, "PE", "the formula")
