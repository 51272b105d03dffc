"""The chain rule through whole networks, beside autograd, and a training beside torch.optim."""

from collections.abc import Callable
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from unvanish.exercises.proofs.compare import Function, autograd, drawn, few, same, seeds, sizes
from unvanish.formulas.activations import relu_derivative, sigmoid_derivative, tanh_derivative
from unvanish.formulas.losses import categorical_cross_entropy_derivative
from unvanish.formulas.optimizers import sgd

_Sigma = Callable[[Tensor], Tensor]
_SIGMAS: dict[str, tuple[_Sigma, _Sigma]] = {
    "sigmoid": (torch.sigmoid, sigmoid_derivative),
    "tanh": (torch.tanh, tanh_derivative),
    "relu": (torch.relu, relu_derivative),
}
_names = st.sampled_from(sorted(_SIGMAS))


def _parameters(seed: int, widths: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    Ws = drawn(seed + 1, *((n_out, n_in) for n_in, n_out in pairwise(widths)))
    return Ws, drawn(seed + 2, *((n_out,) for n_out in widths[1:]))


@few
@given(seed=seeds, samples=sizes, n=sizes, name=_names)
def output_delta(f: Function, seed: int, samples: int, n: int, name: str) -> None:
    """Autograd through the output's activation."""
    z, y = drawn(seed, (samples, n), (samples, n))
    sigma, derivative = _SIGMAS[name]
    (expected,) = autograd(lambda z: F.mse_loss(sigma(z), y), None, z)
    (dL_dy_hat,) = autograd(lambda y_hat: F.mse_loss(y_hat, y), None, sigma(z))
    same(f(dL_dy_hat, z, derivative), expected, "delta", "autograd")


@few
@given(seed=seeds, samples=sizes, widths=st.lists(sizes, min_size=2, max_size=5), name=_names)
def backward(f: Function, seed: int, samples: int, widths: list[int], name: str) -> None:
    """Autograd through every layer: its deltas, and the gradients of its weights and biases."""
    sigma, derivative = _SIGMAS[name]
    (x,), (Ws, bs) = drawn(seed, (samples, widths[0])), _parameters(seed, widths)
    y = drawn(seed + 3, (samples, widths[-1]))[0].softmax(-1)
    leaves = [tensor.clone().requires_grad_() for tensor in (*Ws, *bs)]
    a, zs, activations = x, [], [x]
    for index, (W, b) in enumerate(zip(leaves[: len(Ws)], leaves[len(Ws) :], strict=True)):
        zs.append(F.linear(a, W, b))
        a = zs[-1] if index == len(Ws) - 1 else sigma(zs[-1])
        activations.append(a)
    gradients = torch.autograd.grad(F.cross_entropy(a, y), [*zs, *leaves])
    expected = tuple(list(gradients[k * len(Ws) : (k + 1) * len(Ws)]) for k in range(3))
    zs, activations = [z.detach() for z in zs], [a.detach() for a in activations]
    delta = categorical_cross_entropy_derivative(zs[-1], y)
    found = f(delta, Ws, zs, activations, [derivative] * (len(Ws) - 1))
    same(found, expected, "(deltas, dWs, dbs)", "autograd")


@few
@given(seed=seeds, widths=st.lists(sizes, min_size=2, max_size=4))
def train(f: Function, seed: int, widths: list[int]) -> None:
    """Five steps of torch's SGD on the same network and batches."""
    (x,), (Ws, bs) = drawn(seed, (7, widths[0])), _parameters(seed, widths)
    y = drawn(seed + 3, (7, widths[-1]))[0].softmax(-1)
    indices = [torch.tensor([k % 7, (k + 3) % 7]) for k in range(5)]
    twins = [nn.Parameter(theta.clone()) for theta in (*Ws, *bs)]
    optimizer = torch.optim.SGD(twins, lr=0.1)
    for batch in indices:
        a = x[batch]
        for index, (W, b) in enumerate(zip(twins[: len(Ws)], twins[len(Ws) :], strict=True)):
            a = F.linear(a if not index else torch.tanh(a), W, b)
        optimizer.zero_grad()
        F.cross_entropy(a, y[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def update(theta: Tensor, g: Tensor, state: None) -> tuple[Tensor, None]:
        return sgd(theta, g, 0.1), state

    given_to_it = torch.tanh, tanh_derivative, categorical_cross_entropy_derivative, indices, update
    found = f(x, y, Ws, bs, *given_to_it, [None] * len(twins))
    same(list(found[0]) + list(found[1]), [theta.detach() for theta in twins], "Ws and bs", "torch.optim.SGD")
