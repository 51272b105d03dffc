"""How large the first weights are, so that neither values nor gradients grow or shrink from layer to layer.

With W of mean 0, independent of what it multiplies, and no bias, for each unit:

    forward   z = W a               Var z = fan_in Var W E[a^2]
    backward  dL/da = W^T delta     Var dL/da = fan_out Var W Var delta

Shapes: W is (n_out, n_in): fan_in = n_in, fan_out = n_out.
"""

import math

import torch
from torch import Tensor


def xavier_variance(fan_in: int, fan_out: int) -> float:
    """2 / (fan_in + fan_out) (Glorot and Bengio 2010, eq. 12).

    Near 0 tanh is the identity: E[a^2] = Var z of the layer before, and sigma' = 1. So the forward pass keeps its
    variance where fan_in Var W = 1, the backward pass where fan_out Var W = 1. Both can hold for square layers only.
    This is the compromise: 1 over the mean of the fans.
    """
    return 2 / (fan_in + fan_out)


def he_variance(fan_in: int) -> float:
    """2 / fan_in (He et al. 2015, eq. 10).

    z is symmetric about 0 and ReLU drops half of it: E[a^2] = Var z / 2, z of the layer before. So Var z is kept where
    fan_in Var W / 2 = 1. The backward pass gives 2 / fan_out (eq. 14), since E[sigma'(z)^2] = 1/2; either will do:
    the other pass then changes by n_first / n_last or its inverse in the whole network, not by a factor each layer.
    """
    return 2 / fan_in


def lecun_variance(fan_in: int) -> float:
    """1 / fan_in (LeCun et al. 1998, 4.6): Var z = 1 where E[a^2] = 1, as of standardized inputs."""
    return 1 / fan_in


def uniform_bound(variance: float) -> float:
    """U(-r, r) has the variance r^2 / 3: r = sqrt(3 variance)."""
    return math.sqrt(3 * variance)


def draw_normal(fan_out: int, fan_in: int, variance: float, generator: torch.Generator) -> Tensor:
    """W ~ N(0, variance), (fan_out, fan_in), of torch's default dtype, on the generator's device."""
    return torch.randn(fan_out, fan_in, generator=generator, device=generator.device) * math.sqrt(variance)
