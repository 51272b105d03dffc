"""How a gradient becomes a step: SGD, momentum, RMSProp, Adam, and the two ways to shrink the weights with Adam.

Shapes: theta (any), one tensor of parameters; its gradient g and each tensor of its state have theta's shape.

Each function returns the new theta and, where it has a state, the new state. It computes what torch.optim's does, and
raises ValueError for a gradient or state of another shape than theta's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unvanish.formulas.regularization import l2_gradient


class AdamState(NamedTuple):
    """The running means m of g and v of g^2, both of theta's shape, and the number t of steps taken."""

    m: Tensor
    v: Tensor
    t: int


def sgd(theta: Tensor, g: Tensor, eta: float) -> Tensor:
    """theta <- theta - eta g (Robbins and Monro 1951)."""
    _check_shapes(theta, g)
    return theta - eta * g


def momentum(theta: Tensor, g: Tensor, velocity: Tensor, eta: float, mu: float) -> tuple[Tensor, Tensor]:
    """velocity <- mu velocity + g; theta <- theta - eta velocity (Polyak 1964). The first velocity is 0.

    A steady gradient is followed at eta / (1 - mu). Returns theta and velocity.
    """
    _check_shapes(theta, g, velocity)
    velocity = mu * velocity + g
    return theta - eta * velocity, velocity


def rmsprop(theta: Tensor, g: Tensor, v: Tensor, eta: float, alpha: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """v <- alpha v + (1 - alpha) g^2; theta <- theta - eta g / (sqrt(v) + epsilon) (Tieleman and Hinton 2012, 6.5).

    The first v is 0. Returns theta and v.
    """
    _check_shapes(theta, g, v)
    v = alpha * v + (1 - alpha) * g.square()
    return theta - eta * g / (v.sqrt() + epsilon), v


def adam_start(theta: Tensor) -> AdamState:
    """m = 0, v = 0, t = 0."""
    return AdamState(torch.zeros_like(theta), torch.zeros_like(theta), 0)


def adam(
    theta: Tensor,
    g: Tensor,
    state: AdamState,
    eta: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Tensor, AdamState]:
    """theta <- theta - eta m_hat / (sqrt(v_hat) + epsilon) (Kingma and Ba 2015, algorithm 1).

    m <- beta1 m + (1 - beta1) g       m_hat = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2     v_hat = v / (1 - beta2^t)

    m and v start at 0 and are too small at first; the hats correct it. The first step is eta sign(g), but for epsilon.
    """
    _check_shapes(theta, g, state.m, state.v)
    t = state.t + 1
    m = beta1 * state.m + (1 - beta1) * g
    v = beta2 * state.v + (1 - beta2) * g.square()
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - eta * m_hat / (v_hat.sqrt() + epsilon), AdamState(m, v, t)


def adam_with_l2(
    theta: Tensor,
    g: Tensor,
    state: AdamState,
    eta: float,
    lambda_: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Tensor, AdamState]:
    """Adam on g + 2 lambda theta, the gradient of L + lambda sum theta^2 (Loshchilov and Hutter 2019, algorithm 2).

    The penalty's part of the gradient is divided by sqrt(v_hat) as well, so weights with large gradients decay less.
    torch.optim.Adam calls 2 lambda its weight_decay.
    """
    _check_shapes(theta, g)
    return adam(theta, g + l2_gradient(theta, lambda_), state, eta, beta1, beta2, epsilon)


def adamw(
    theta: Tensor,
    g: Tensor,
    state: AdamState,
    eta: float,
    weight_decay: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Tensor, AdamState]:
    """Adam on g alone, then theta <- ... - eta weight_decay theta (Loshchilov and Hutter 2019, algorithm 2).

    The decay is not divided by sqrt(v_hat): every weight shrinks by the same share, whatever its gradient. With SGD
    that equals L2 with 2 lambda = weight_decay (proposition 1). The paper's lambda is eta weight_decay
    here, as in torch.optim.AdamW.
    """
    stepped, state = adam(theta, g, state, eta, beta1, beta2, epsilon)
    return stepped - eta * weight_decay * theta, state


def _check_shapes(theta: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape != theta.shape:
            raise ValueError(f"theta is {tuple(theta.shape)}, but its gradient or state is {tuple(other.shape)}")
