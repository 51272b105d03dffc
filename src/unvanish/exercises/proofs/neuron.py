"""Neuron, layer and forward propagation, beside torch.nn."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes


@few
@given(seed=seeds, n=sizes, batch=st.lists(sizes, max_size=2))
def neuron(f: Function, seed: int, n: int, batch: list[int]) -> None:
    """A linear unit and its activation."""
    x, w, b = drawn(seed, (*batch, n), (n,), ())
    expected = F.linear(x, w.unsqueeze(0), b.unsqueeze(0)).squeeze(-1)
    same(f(x, w, b, torch.sigmoid), torch.sigmoid(expected), "a")
    same(f(x, w, b, torch.tanh), torch.tanh(expected), "a")


@few
@given(seed=seeds, batch=sizes, n_in=sizes, n_out=sizes)
def layer(f: Function, seed: int, batch: int, n_in: int, n_out: int) -> None:
    """torch's linear layer."""
    a, W, b = drawn(seed, (batch, n_in), (n_out, n_in), (n_out,))
    same(f(a, W, b), F.linear(a, W, b), "z")


@few
@given(seed=seeds, batch=sizes, n_in=sizes, n_out=sizes)
def layer_backward(f: Function, seed: int, batch: int, n_in: int, n_out: int) -> None:
    """Autograd through torch's linear layer."""
    a, W, b, delta = drawn(seed, (batch, n_in), (n_out, n_in), (n_out,), (batch, n_out))
    expected = autograd(F.linear, delta, a, W, b)
    same(f(delta, a, W), expected, "(dL/da, dL/dW, dL/db)", "autograd")


@few
@given(seed=seeds, batch=sizes, widths=st.lists(sizes, min_size=1, max_size=5))
def forward(f: Function, seed: int, batch: int, widths: list[int]) -> None:
    """A sequential network with the same weights; without layers its input."""
    depth = len(widths) - 1
    x, *parameters = drawn(
        seed, (batch, widths[0]), *((m, n) for n, m in pairwise(widths)), *((m,) for m in widths[1:])
    )
    Ws, bs = parameters[:depth], parameters[depth:]
    sigmas = [torch.tanh] * (depth - 1) + [torch.sigmoid] * (depth > 0)
    zs, activations = [], [x]
    for W, b, sigma in zip(Ws, bs, sigmas, strict=True):
        zs.append(F.linear(activations[-1], W, b))
        activations.append(sigma(zs[-1]))
    same(f(x, Ws, bs, sigmas), (zs, activations), "(zs, activations)")
