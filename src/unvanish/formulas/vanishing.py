"""Why gradients vanish: what depth makes of one layer's factor, and what that factor is.

Shapes: L layers. A layer's weights W are (n_out, n_in): fan_in = n_in, fan_out = n_out. z is N(0, q) over its units,
delta = dL/dz, and f, sigma and sigma_derivative are elementwise functions of a tensor.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_REACH = 10.0  # the normal density beyond is below 1e-22
_STEP = 2.0**-12


def gradient_after(factor: float, layers: int) -> float:
    """factor^layers: what is left of a gradient of 1 when each layer multiplies it by ``factor``."""
    return factor**layers


def product_of_derivatives(zs: Iterable[Tensor], sigma_derivative: Callable[[Tensor], Tensor]) -> Tensor:
    """sigma'(z_1) sigma'(z_2) ... sigma'(z_L): da_L/db_1 of a chain of one-unit layers with weights 1.

    Other weights multiply it by w_2 ... w_L (Bengio, Simard and Frasconi 1994).

    Args:
        zs: z_l of each layer, all of one shape: that of the result.
        sigma_derivative: sigma'.
    """
    return torch.stack([sigma_derivative(z) for z in zs]).prod(0)


def sigmoid_bound(layers: int) -> float:
    """(1/4)^L: no product of L sigmoid derivatives exceeds it, and it is reached where every z is 0."""
    return gradient_after(0.25, layers)


def mean_square(f: Callable[[Tensor], Tensor], q: float) -> float:
    """E[f(z)^2] for z = sqrt(q) u, u ~ N(0, 1).

    A sum over the middles of 81,920 steps of u from -10 to 10, one of which ends at 0. Relative error at q from 0.01 to
    30: 1e-12 for smooth f and for ReLU, leaky ReLU and their derivatives; 1e-7 where another f has a kink, or a jump
    at 0; 1e-3 where it jumps elsewhere.
    """
    u = torch.arange(-_REACH + _STEP / 2, _REACH, _STEP, dtype=torch.float64)
    density = torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
    return float((f(math.sqrt(q) * u) ** 2 * density).sum() * _STEP)


def layer_factor(sigma_derivative: Callable[[Tensor], Tensor], weight_variance: float, fan_out: int, q: float) -> float:
    """sqrt(fan_out Var W E[sigma'(z)^2]): what the RMS of delta is expected to be multiplied by, layer l+1 to layer l.

    From delta_l = (W^T delta_(l+1)) sigma'(z_l), elementwise: each unit of layer l sums over the fan_out units of layer
    l+1 (Glorot and Bengio 2010, 4.2.1; He et al. 2015, 2.2). The norm |delta| grows with the number of units as well:
    its factor has fan_in in the place of fan_out, and is the same where the layer is square.

    Args:
        sigma_derivative: sigma' of layer l.
        weight_variance: Var W of the weights between the layers, of mean 0.
        fan_out: Units of layer l+1.
        q: The variance of z_l.
    """
    return math.sqrt(fan_out * weight_variance * mean_square(sigma_derivative, q))


def next_variance(
    sigma: Callable[[Tensor], Tensor], weight_variance: float, fan_in: int, q: float, bias_variance: float = 0.0
) -> float:
    """fan_in Var W E[sigma(z)^2] + Var b: the variance of the next layer's z (Poole et al. 2016; He et al. 2015, 2.2).

    Args:
        sigma: The activation of this layer.
        weight_variance: Var W of the weights to the next layer, of mean 0.
        fan_in: Units of this layer.
        q: The variance of this layer's z.
        bias_variance: Var b.
    """
    return fan_in * weight_variance * mean_square(sigma, q) + bias_variance
