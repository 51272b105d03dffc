"""Penalties beside autograd, dropout beside torch's and over all masks that there are."""

import math
from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, holds, same, seeds, sizes

_p = st.floats(0, 0.9)


@few
@given(seed=seeds, shapes=st.lists(st.tuples(sizes, sizes), max_size=3), lambda_=st.floats(0, 2))
def l2(f: Function, seed: int, shapes: list[tuple[int, int]], lambda_: float) -> None:
    """The sum over all elements of all weights."""
    weights = drawn(seed, *shapes)
    total = sum(w**2 for weight in weights for w in weight.flatten().tolist())
    loss = torch.tensor(3.0, dtype=torch.float64)
    same(f(loss, weights, lambda_), torch.tensor(3 + lambda_ * total, dtype=torch.float64), "L'", "the sum")


@few
@given(seed=seeds, m=sizes, n=sizes, lambda_=st.floats(0, 2))
def l2_gradient(f: Function, seed: int, m: int, n: int, lambda_: float) -> None:
    """Autograd's of the penalty."""
    (W,) = drawn(seed, (m, n))
    (expected,) = autograd(lambda W: lambda_ * W.square().sum(), None, W)
    same(f(W, lambda_), expected, "the gradient", "autograd")


@few
@given(seed=seeds, p=st.sampled_from([0.0, 0.3, 0.5, 0.8]))
def dropout_mask(f: Function, seed: int, p: float) -> None:
    """Zeros and ones of the generator, 1 with probability 1 - p, for each element on its own."""
    (a,) = drawn(seed, (97, 101))
    mask, again = (f(a, p, torch.Generator().manual_seed(seed)) for _ in range(2))
    holds(isinstance(mask, Tensor) and mask.shape == a.shape, f"the mask is not of a's shape {tuple(a.shape)}")
    holds(mask.dtype == a.dtype, f"the mask is of {mask.dtype}, and a of {a.dtype}")
    holds(((mask == 0) | (mask == 1)).all(), "the mask has values other than 0 and 1")
    same(again, mask, "the mask of the same seed", "the first draw")
    for axis, count in enumerate(a.shape):
        kept = mask.mean(axis)
        error = 6 * math.sqrt(p * (1 - p) / count) + 1e-12
        worst = float((kept - (1 - p)).abs().max())
        holds(worst <= error, f"along axis {axis} a share of {1 - p - worst:.2f} or more is kept, where p is {p:.2f}")


def _case(seed: int, shape: list[int], p: float) -> tuple[Tensor, Tensor, Tensor]:
    """a, torch's dropout of it, and the mask that it has drawn."""
    a = drawn(seed, shape)[0].abs() + 1  # no 0, so that a 0 behind it is a dropped unit
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dropped = F.dropout(a, p)
    return a, dropped, (dropped != 0).double()


@few
@given(seed=seeds, shape=st.lists(sizes, min_size=1, max_size=3), p=_p)
def dropout(f: Function, seed: int, shape: list[int], p: float) -> None:
    """torch's, with the mask that it has drawn."""
    a, dropped, mask = _case(seed, shape, p)
    same(f(a, mask, p), dropped, "the output")


@few
@given(seed=seeds, shape=st.lists(sizes, min_size=1, max_size=3), p=_p)
def dropout_backward(f: Function, seed: int, shape: list[int], p: float) -> None:
    """Autograd's, with the mask that torch has drawn."""
    a, _, mask = _case(seed, shape, p)
    (delta,) = drawn(seed + 1, shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        (expected,) = autograd(lambda a: F.dropout(a, p), delta, a)
    same(f(delta, mask, p), expected, "dL/da", "autograd")


@few
@given(seed=seeds, n=sizes, p=_p)
def dropout_mean_variance(f: Function, seed: int, n: int, p: float) -> None:
    """Mean and variance over all masks that there are."""
    (a,) = drawn(seed, (n,))
    masks = torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    chances = (masks * (1 - p) + (1 - masks) * p).prod(1, keepdim=True)
    outcomes = a * masks / (1 - p)
    mean = (chances * outcomes).sum(0)
    variance = (chances * (outcomes - mean) ** 2).sum(0)
    same(f(a, p), (mean, variance), "(mean, variance)", "the mean over all masks")
