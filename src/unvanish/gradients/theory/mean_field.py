"""Predictions of mean-field theory for a wide network at initialization, to compare with measurements.

Weights are N(0, sigma_w2 / fan_in), biases N(0, sigma_b2), so that a layer's z = hW + b is N(0, q), and delta = dL/dz.
Averages over N(0, 1) are Gauss-Legendre sums on panels that shrink towards 0 and the activation's kinks: Gauss-Hermite
fails at kinks and where q is large; 160 points give E[tanh^2] to 15 digits at q = 1, to 4 at 10 and to one at 100.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.activations import build_activation

Activation = str | Callable[[Tensor], Tensor]
_Array = NDArray[np.float64]

_REACH = 9.0  # 1e-19 of the normal distribution lies beyond
_HALF = np.concatenate([2 * 0.25 ** np.arange(11, 0, -1), np.arange(2, 2 * _REACH + 1, 2)])
_EDGES = np.concatenate([-_HALF[::-1], [0.0], _HALF])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_SMALLEST, _LARGEST = 1e-12, 1e12  # a fixed point q* outside of them is 0 or infinite


@dataclass(frozen=True)
class MeanField:
    """The fixed point of a deep network: what its layers converge to (Poole et al. 2016; Schoenholz et al. 2017).

    Args:
        q: The variance q* of z that layers reach from q = 1. ReLU, leaky ReLU and the identity have no scale: without
            biases q is 1 at their critical variance (where any q stays), 0 below and inf above it.
        chi: The factor chi_1 by which a layer multiplies the squared gradient at q*, or its limit at 0 and inf.
        c: The correlation c* that two inputs reach: 1 where chi <= 1 or q is inf, else less.
        xi: Layers in which the distance from c* shrinks by e: -1 / ln(sigma_w2 E[phi'(u1) phi'(u2)]) at c*, which is
            -1 / ln(chi) where chi < 1, even at q = 0; inf at criticality and where q is inf.
    """

    q: float
    chi: float
    c: float
    xi: float

    @property
    def factor_per_layer(self) -> float:
        """The factor of the norm |delta| from a layer to the one before it: sqrt(v/2) for ReLU with Var W = v/n."""
        return math.sqrt(self.chi)


def mean_field(activation: Activation, sigma_w2: float, sigma_b2: float = 0.0) -> MeanField:
    """The fixed point of q' = sigma_b2 + sigma_w2 E[phi(sqrt(q) z)^2], and the factor of the gradient there.

    Args:
        activation: A name, as in a recipe, or any elementwise function of a tensor.
        sigma_w2: fan_in times the variance of a weight.
        sigma_b2: Variance of a bias.

    Raises:
        ValueError: the activation is unknown or not elementwise, or a variance is negative or not finite.
    """
    phi = _elementwise(activation)
    _check_variances(sigma_w2=[sigma_w2], sigma_b2=[sigma_b2])
    q = _fixed_variance(phi, sigma_w2, sigma_b2)
    chi = sigma_w2 * _averages(phi, min(q, _LARGEST))[1]
    if q == math.inf or abs(chi - 1) < 1e-6:  # critical: a depth scale of a million layers
        return MeanField(q, chi, 1.0, math.inf)
    c, slope = (1.0, chi) if chi < 1 else _fixed_correlation(phi, sigma_w2, sigma_b2, q)
    return MeanField(q, chi, c, -1 / math.log(slope) if slope > 0 else 0.0)


def expected_factors(
    activations: Sequence[Activation], sigma_w2: Sequence[float], sigma_b2: Sequence[float], q0: float
) -> list[float]:
    """Predict |delta_l| / |delta_(l+1)| for l = 1 ... L-1, at the variances for this input, not at their fixed point.

    E|delta_l|^2 = |delta_(l+1)|^2 sigma_w2_(l+1) E[phi'(sqrt(q_l) z)^2], whatever the widths (Schoenholz et al. 2017).

    Args:
        activations: Those between the layers, L-1 of them.
        sigma_w2: fan_in times the variance of the weights, for L layers.
        sigma_b2: Variance of the biases, for L layers.
        q0: The mean of x^2 over the input's features.

    Raises:
        ValueError: the lengths do not match, or as in ``mean_field``.
    """
    if not len(sigma_w2) == len(sigma_b2) == len(activations) + 1:
        counts = f"{len(sigma_w2)}, {len(sigma_b2)} and {len(activations)}"
        raise ValueError(f"{counts} values of sigma_w2, sigma_b2 and activations; L layers have L, L and L-1")
    _check_variances(sigma_w2=sigma_w2, sigma_b2=sigma_b2, q0=[q0])
    functions = {activation: _elementwise(activation) for activation in set(activations)}
    q, factors = sigma_b2[0] + sigma_w2[0] * q0, []
    for activation, weight, bias in zip(activations, sigma_w2[1:], sigma_b2[1:], strict=True):
        square, slope_square = _averages(functions[activation], q)
        factors.append(math.sqrt(weight * slope_square))
        q = bias + weight * square
    return factors


def gain(activation: Activation) -> float:
    """The sigma_w that keeps the variance of z at 1 without biases: 1 / sqrt(E[phi(z)^2])."""
    return 1 / math.sqrt(_averages(_elementwise(activation), 1.0)[0])


def batchnorm_explosion(batch_size: float) -> float:
    """The factor of the squared gradient per layer of linear, BatchNorm, ReLU (Yang et al. 2019, Theorem 8).

    Raises:
        ValueError: batch_size is below 4, or neither a whole number nor ``math.inf``.
    """
    if batch_size == math.inf:
        return math.pi / (math.pi - 1)
    if not (batch_size >= 4 and batch_size == int(batch_size)):
        raise ValueError(f"batch_size is {batch_size}; it must be a whole number of at least 4, or inf")
    c = -1 / (batch_size - 1)  # the correlation of two samples once the mean is taken out
    slope = (math.pi - math.acos(c)) / math.pi
    kernel = math.sqrt(1 - c**2) / math.pi + slope * c
    return ((slope + batch_size - 1) / (1 - kernel) - 1) / (batch_size - 3)


@dataclass(frozen=True)
class _Elementwise:
    """An activation u -> (phi(u), phi'(u)), with the points at which averages are split: 0, and where phi' jumps."""

    phi: Callable[[Tensor], Tensor]
    kinks: _Array

    def __call__(self, u: _Array) -> tuple[_Array, _Array]:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = torch.from_numpy(u).requires_grad_()
            value = self.phi(leaf * 1)  # a leaf may not be written to, as an in-place ReLU does
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach().numpy(), slope.numpy()


@torch.inference_mode(False)
def _elementwise(activation: Activation) -> _Elementwise:
    if isinstance(activation, str):
        activation = build_activation(activation)
    if isinstance(activation, nn.Module):
        activation = copy.deepcopy(activation).to("cpu", torch.float64)  # it may have parameters, as PReLU has
    phi = _Elementwise(activation, np.zeros(1))
    grid = np.linspace(-9.9973, 10, 2000)  # kinks are at round numbers, which it avoids
    value, slope = phi(grid)
    if value.shape != grid.shape or not np.allclose(value[:8], phi(grid[:8])[0]):
        raise ValueError(f"{activation} is no finite function of each element on its own, the same at every call")
    is_jump = np.abs(np.diff(slope)) > 0.05
    if abs(np.diff(phi(np.array([-1e-9, 1e-9]))[1])[0]) > 0.05:  # at 0, where averages are split of all functions
        is_jump &= (grid[:-1] > 0) | (grid[1:] < 0)
    if not is_jump.any():
        return phi
    low, high = np.stack([grid[:-1], grid[1:]])[:, is_jump]
    for _ in range(50):  # halved, a jump stays as high as it was, and a steep place does not
        middle = (low + high) / 2
        left, right = np.abs(np.diff(np.split(phi(np.concatenate([low, middle, high]))[1], 3), axis=0))
        low, high = np.where(left > right, [low, middle], [middle, high])
    kinks = middle[(np.maximum(left, right) > 0.05) & (np.abs(middle) > 1e-9)]
    return _Elementwise(activation, np.append(kinks, 0.0))


def _check_variances(**variances: Sequence[float]) -> None:
    for name, value in ((name, value) for name, values in variances.items() for value in values):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and at least 0")


def _normal_rule(kinks: _Array) -> tuple[_Array, _Array]:
    """Nodes and weights (..., n) of averages over N(0, 1), for functions that are smooth between ``kinks`` (..., k)."""
    edges = np.clip(np.clip(kinks, -_REACH, _REACH)[..., None] + _EDGES, -_REACH, _REACH)
    edges = np.sort(edges.reshape(*kinks.shape[:-1], -1))
    middle, half = (edges[..., 1:] + edges[..., :-1]) / 2, np.diff(edges) / 2
    z = middle[..., None] + half[..., None] * _NODES
    weights = half[..., None] * _WEIGHTS * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return z.reshape(*kinks.shape[:-1], -1), weights.reshape(*kinks.shape[:-1], -1)


def _averages(phi: _Elementwise, q: float) -> tuple[float, float]:
    """E[phi(sqrt(q) z)^2] and E[phi'(sqrt(q) z)^2]."""
    sigma = math.sqrt(max(q, 1e-30))  # at 0 every node would be on the kink
    z, weights = _normal_rule(phi.kinks / sigma)
    value, slope = phi(sigma * z)
    return float(weights @ value**2), float(weights @ slope**2)


def _correlated_averages(phi: _Elementwise, q: float, c: float) -> tuple[float, float]:
    """E[phi(u1) phi(u2)] and E[phi'(u1) phi'(u2)]: given the part that u1 and u2 share, the average is a square."""
    shared, own = math.sqrt(q * c), math.sqrt(q * (1 - c))
    z, outer = _normal_rule(phi.kinks / max(shared, 1e-30))
    noise, inner = _normal_rule((phi.kinks - shared * z[:, None]) / own)
    value, slope = phi(shared * z[:, None] + own * noise)
    return float(outer @ (inner * value).sum(1) ** 2), float(outer @ (inner * slope).sum(1) ** 2)


def _fixed_variance(phi: _Elementwise, sigma_w2: float, sigma_b2: float) -> float:
    """Find q* by bisection; iterating the map would take as many steps as the depth scale has layers."""

    def growth(q: float) -> float:
        return sigma_b2 + sigma_w2 * _averages(phi, q)[0] - q

    if abs(growth(1.0)) < 1e-12:
        return 1.0
    low, high = (1.0, _LARGEST) if growth(1.0) > 0 else (max(sigma_b2, _SMALLEST), 1.0)
    if growth(high) >= 0 or growth(low) < 0:  # no fixed point between them
        return math.inf if high > 1 else 0.0
    while high / low > 1 + 1e-15:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if growth(middle) > 0 else (low, middle)
    return high


def _fixed_correlation(phi: _Elementwise, sigma_w2: float, sigma_b2: float, q: float) -> tuple[float, float]:
    """c* < 1 and the slope of the correlation map there. The map is convex: Newton's method never overshoots from 0."""
    c = 0.0
    for _ in range(100):
        covariance, slope = (sigma_w2 * average for average in _correlated_averages(phi, q, c))
        step = ((sigma_b2 + covariance) / q - c) / (1 - slope)
        c += step
        if abs(step) < 1e-12:
            break
    return c, slope
