"""Batch and layer normalization, beside torch.nn and autograd."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes

_cases: Any = given(seed=seeds, samples=st.integers(2, 5), n=sizes, epsilon=st.sampled_from([1e-5, 1e-2, 0.7]))


@few
@_cases
def batch_norm(f: Function, seed: int, samples: int, n: int, epsilon: float) -> None:
    """torch's in training, with the batch's mean and biased variance; its default epsilon is torch's."""
    z, gamma, beta = drawn(seed, (samples, n), (n,), (n,))
    expected = F.batch_norm(z, None, None, gamma, beta, True, eps=epsilon)
    statistics = z.mean(0), z.var(0, correction=0)
    same(f(z, gamma, beta, epsilon), (expected, *statistics), "(value, mean, variance)")
    same(f(z, gamma, beta)[0], F.batch_norm(z, None, None, gamma, beta, True), "the value of the default epsilon")


@few
@_cases
def batch_norm_backward(f: Function, seed: int, samples: int, n: int, epsilon: float) -> None:
    """Autograd's, through mean and variance as well."""
    z, gamma, beta, delta = drawn(seed, (samples, n), (n,), (n,), (samples, n))

    def torchs(z: Any, gamma: Any, beta: Any) -> Any:
        return F.batch_norm(z, None, None, gamma, beta, True, eps=epsilon)

    expected = autograd(torchs, delta, z, gamma, beta)
    same(f(delta, z, gamma, epsilon), expected, "(dL/dz, dL/dgamma, dL/dbeta)", "autograd")


@few
@given(seed=seeds, n=sizes, momentum=st.sampled_from([0.1, 0.37]))
def running(f: Function, seed: int, n: int, momentum: float) -> None:
    """The running statistics of torch's BatchNorm1d over two batches."""
    reference = nn.BatchNorm1d(n, momentum=momentum, dtype=torch.float64)
    mean, variance = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    for size in (2, 5):
        (z,) = drawn(seed + size, (size, n))
        reference(z)
        mean, variance = f(mean, variance, z.mean(0), z.var(0, correction=0), size, momentum)
        expected: Any = reference.running_mean, reference.running_var
        same((mean, variance), expected, "(mean, variance)")


@few
@_cases
def batch_norm_inference(f: Function, seed: int, samples: int, n: int, epsilon: float) -> None:
    """torch's with statistics that are given."""
    z, mean, variance, gamma, beta = drawn(seed, (samples, n), (n,), (n,), (n,), (n,))
    variance = variance.square() + 0.1
    expected = F.batch_norm(z, mean, variance, gamma, beta, False, eps=epsilon)
    same(f(z, mean, variance, gamma, beta, epsilon), expected, "the value")


@few
@_cases
def layer_norm(f: Function, seed: int, samples: int, n: int, epsilon: float) -> None:
    """torch's, also with an axis more; its default epsilon is torch's."""
    for shape in ((samples, n), (2, samples, n)):
        z, gamma, beta = drawn(seed, shape, (n,), (n,))
        same(f(z, gamma, beta, epsilon), F.layer_norm(z, (n,), gamma, beta, epsilon), "the value")
        same(f(z, gamma, beta), F.layer_norm(z, (n,), gamma, beta), "the value of the default epsilon")


@few
@_cases
def layer_norm_backward(f: Function, seed: int, samples: int, n: int, epsilon: float) -> None:
    """Autograd's, also with an axis more."""
    for shape in ((samples, n), (2, samples, n)):
        z, gamma, beta, delta = drawn(seed, shape, (n,), (n,), shape)

        def torchs(z: Any, gamma: Any, beta: Any) -> Any:
            return F.layer_norm(z, (n,), gamma, beta, epsilon)

        expected = autograd(torchs, delta, z, gamma, beta)
        same(f(delta, z, gamma, epsilon), expected, "(dL/dz, dL/dgamma, dL/dbeta)", "autograd")
