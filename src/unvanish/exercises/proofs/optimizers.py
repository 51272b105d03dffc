"""Optimizers, beside torch.optim, for ten steps with gradients of many sizes."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unvanish.exercises.proofs.compare import Function, drawn, few, same, seeds
from unvanish.formulas import optimizers
from unvanish.formulas.optimizers import AdamState

_etas, _shares = st.floats(1e-3, 0.1), st.floats(0.5, 0.99)  # less, and Adam is chaotic
_epsilons, _decays = st.sampled_from([1e-8, 1e-3, 0.1]), st.floats(0.01, 0.5)
_SIZES = 10 ** torch.linspace(-2, 2, 5, dtype=torch.float64)


def _follows(twin: torch.optim.Optimizer, update: Function, state: Any, seed: int) -> None:
    """Whether ``update(theta, g, state)`` keeps to torch's optimizer."""
    parameter = twin.param_groups[0]["params"][0]
    theta = parameter.detach().clone()
    for step, g in enumerate(drawn(seed + 1, *[theta.shape] * 10)):
        parameter.grad = _SIZES * g
        twin.step()
        theta, state = update(theta, _SIZES * g, state)
        same(theta, parameter.detach(), f"after step {step + 1} theta", type(twin).__name__)


def _parameter(seed: int) -> nn.Parameter:
    (theta,) = drawn(seed, (3, 5))
    return nn.Parameter(theta)


def _follows_adam(f: Function, twin: torch.optim.Optimizer, seed: int, *decay: float) -> None:
    """The same for ``f(theta, g, state, eta, *decay, beta1, beta2, epsilon)``, with the numbers of its twin."""
    own = twin.param_groups[0]

    def update(theta: Tensor, g: Tensor, state: Any) -> Any:
        return f(theta, g, AdamState(*state), own["lr"], *decay, *own["betas"], own["eps"])

    _follows(twin, update, optimizers.adam_start(own["params"][0].detach()), seed)


@few
@given(seed=seeds, eta=_etas)
def sgd(f: Function, seed: int, eta: float) -> None:
    """torch.optim.SGD."""
    twin = torch.optim.SGD([_parameter(seed)], lr=eta)
    _follows(twin, lambda theta, g, state: (f(theta, g, eta), state), None, seed)


@few
@given(seed=seeds, eta=_etas, mu=_shares)
def momentum(f: Function, seed: int, eta: float, mu: float) -> None:
    """torch.optim.SGD with momentum."""
    theta = _parameter(seed)
    twin = torch.optim.SGD([theta], lr=eta, momentum=mu)
    _follows(twin, lambda theta, g, v: f(theta, g, v, eta, mu), torch.zeros_like(theta.detach()), seed)


@few
@given(seed=seeds, eta=_etas, alpha=_shares, epsilon=_epsilons)
def rmsprop(f: Function, seed: int, eta: float, alpha: float, epsilon: float) -> None:
    """torch.optim.RMSprop."""
    theta = _parameter(seed)
    twin = torch.optim.RMSprop([theta], lr=eta, alpha=alpha, eps=epsilon)
    _follows(twin, lambda theta, g, v: f(theta, g, v, eta, alpha, epsilon), torch.zeros_like(theta.detach()), seed)


@few
@given(seed=seeds)
def adam_start(f: Function, seed: int) -> None:
    """Two zeros of theta's shape, and t = 0."""
    (theta,) = drawn(seed, (3, 5))
    zero = torch.zeros_like(theta)
    same(f(theta), (zero, zero, 0), "(m, v, t)", "the proof")


@few
@given(seed=seeds, eta=_etas, beta1=_shares, beta2=_shares, epsilon=_epsilons)
def adam(f: Function, seed: int, eta: float, beta1: float, beta2: float, epsilon: float) -> None:
    """torch.optim.Adam."""
    _follows_adam(f, torch.optim.Adam([_parameter(seed)], eta, (beta1, beta2), epsilon), seed)


@few
@given(seed=seeds, eta=_etas, beta1=_shares, beta2=_shares, epsilon=_epsilons, lambda_=_decays)
def adam_with_l2(
    f: Function, seed: int, eta: float, beta1: float, beta2: float, epsilon: float, lambda_: float
) -> None:
    """torch.optim.Adam, whose weight_decay is twice lambda."""
    _follows_adam(f, torch.optim.Adam([_parameter(seed)], eta, (beta1, beta2), epsilon, 2 * lambda_), seed, lambda_)


@few
@given(seed=seeds, eta=_etas, beta1=_shares, beta2=_shares, epsilon=_epsilons, decay=_decays)
def adamw(f: Function, seed: int, eta: float, beta1: float, beta2: float, epsilon: float, decay: float) -> None:
    """torch.optim.AdamW."""
    _follows_adam(f, torch.optim.AdamW([_parameter(seed)], eta, (beta1, beta2), epsilon, decay), seed, decay)
