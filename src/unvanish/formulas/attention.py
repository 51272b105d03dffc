"""Attention: each query takes the mean of the values, weighted by how well their keys fit.

Shapes: B samples, T queries, S keys and values, d features of a query and a key, d_v features of a value, D features of
a token, H heads. Leading axes (...) are the same for Q, K and V. A mask is True where a query may look, as in torch's
scaled_dot_product_attention; torch's MultiheadAttention means the opposite.
"""

import math

import torch
from torch import Tensor

from unvanish.formulas._shapes import expect
from unvanish.formulas.activations import softmax, softmax_backward


def attention_weights(Q: Tensor, K: Tensor, mask: Tensor | None = None) -> Tensor:
    """A = softmax(Q K^T / sqrt(d)), (..., T, S): each row says where a query looks and sums to 1.

    Args:
        Q: (..., T, d).
        K: (..., S, d).
        mask: bool, broadcasts to (..., T, S): (T, S), or (B, 1, S) for samples of different lengths.

    Raises:
        ValueError: leading axes differ, or the mask lets a query look at nothing: its mean would be 0/0.
    """
    return softmax(_scores(Q, K, mask))


def attention(Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, (..., T, d_v) (Vaswani et al. 2017, equation 1).

    Args:
        Q: (..., T, d).
        K: (..., S, d).
        V: (..., S, d_v).
        mask: As in ``attention_weights``, which also says what is refused.
    """
    expect("V", V, (*K.shape[:-1], V.shape[-1]))
    return attention_weights(Q, K, mask) @ V


def attention_backward(
    delta: Tensor, Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dQ, dL/dK, dL/dV of ``attention``, for delta = dL/d(A V) (..., T, d_v).

    dL/dV = A^T delta; dL/dA = delta V^T; dL/dZ = A (dL/dA - sum_s A dL/dA) for A = softmax(Z), 0 where A = 0;
    dL/dQ = dL/dZ K / sqrt(d); dL/dK = dL/dZ^T Q / sqrt(d).
    """
    expect("V", V, (*K.shape[:-1], V.shape[-1]))
    expect("delta", delta, (*Q.shape[:-1], V.shape[-1]))
    Z = _scores(Q, K, mask)
    dV = softmax(Z).mT @ delta
    dZ = softmax_backward(delta @ V.mT, Z) / math.sqrt(Q.shape[-1])
    return dZ @ K, dZ.mT @ Q, dV


def causal_mask(T: int, like: Tensor) -> Tensor:
    """True where s <= t: no token looks ahead, (T, T); on the device of ``like``."""
    return torch.ones(T, T, dtype=torch.bool, device=like.device).tril()


def multi_head(
    x: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Concat(head_1, ..., head_H) W_o^T with head_i = attention(x W_q,i^T, x W_k,i^T, x W_v,i^T), (B, T, D).

    W_q,i are rows i D/H to (i + 1) D/H - 1 of W_q, for i from 0; so for keys and values (Vaswani et al. 2017, 3.2.2).

    Args:
        x: Tokens that look at each other, (B, T, D).
        W_q: (D, D).
        W_k: (D, D).
        W_v: (D, D).
        W_o: (D, D).
        heads: H, a divisor of D.
        mask: bool, broadcasts to (B, H, T, T): (T, T), or (B, 1, 1, T) for samples of different lengths.
    """
    Q, K, V = (_split(x @ W.T, heads) for W in (W_q, W_k, W_v))
    return _join(attention(Q, K, V, mask)) @ W_o.T


def multi_head_backward(
    delta: Tensor,
    x: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    heads: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dL/d(x, W_q, W_k, W_v, W_o) of ``multi_head``, for delta (B, T, D): x gets a part from each of Q, K and V."""
    expect("delta", delta, x.shape)
    Q, K, V = (_split(x @ W.T, heads) for W in (W_q, W_k, W_v))
    dW_o = _weight_gradient(delta, _join(attention(Q, K, V, mask)))
    dQ, dK, dV = (_join(d) for d in attention_backward(_split(delta @ W_o, heads), Q, K, V, mask))
    dx = dQ @ W_q + dK @ W_k + dV @ W_v
    return dx, _weight_gradient(dQ, x), _weight_gradient(dK, x), _weight_gradient(dV, x), dW_o


def sinusoidal_positions(T: int, d: int, like: Tensor | None = None) -> Tensor:
    """PE[t, 2i] = sin(t / 10000^(2i/d)) and PE[t, 2i + 1] = cos(t / 10000^(2i/d)), (T, d) (Vaswani et al. 2017, 3.5).

    Args:
        T: Positions, t = 0 to T - 1.
        d: Features, an even number.
        like: A float tensor whose dtype and device the result has; without it torch's defaults.

    Raises:
        ValueError: d is odd: its last sine would have no cosine.
    """
    if d % 2:
        raise ValueError(f"d={d} is odd, but sines and cosines come in pairs")
    like = torch.empty(0) if like is None else like
    precise = torch.promote_types(like.dtype, torch.float32)  # bfloat16 counts 256, 256, 258
    t = torch.arange(T, dtype=precise, device=like.device).unsqueeze(-1)
    angles = t / 10000 ** (torch.arange(0, d, 2, dtype=precise, device=like.device) / d)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(like.dtype)


def _scores(Q: Tensor, K: Tensor, mask: Tensor | None) -> Tensor:
    """Z = Q K^T / sqrt(d), (..., T, S), and -inf where the mask is False."""
    expect("K", K, (*Q.shape[:-2], *K.shape[-2:]))
    Z = Q @ K.mT / math.sqrt(Q.shape[-1])
    if mask is None:
        return Z
    mask = mask.expand(Z.shape)  # raises where it does not fit
    if not mask.any(-1).all():
        raise ValueError("the mask lets a query look at nothing, and a mean of nothing is not defined")
    return Z.masked_fill(~mask, -math.inf)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-3, -2)  # (B, T, D) -> (B, T, H, D/H) -> (B, H, T, D/H)


def _join(x: Tensor) -> Tensor:
    return x.transpose(-3, -2).flatten(-2)  # (B, H, T, D/H) -> (B, T, H, D/H) -> (B, T, D)


def _weight_gradient(delta: Tensor, a: Tensor) -> Tensor:
    """dL/dW = sum over samples and tokens of delta a^T."""
    return delta.flatten(0, -2).T @ a.flatten(0, -2)
