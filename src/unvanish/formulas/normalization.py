"""Normalization: z is shifted and scaled to mean 0 and variance 1, over the batch or over the layer's units.

Shapes: B samples, n units. z and delta are (B, n), gamma, beta and the statistics of a batch (n,). layer_norm takes any
(..., n). epsilon keeps the root from 0 where all values are equal; with epsilon = 0 such a column becomes nan.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unvanish.formulas._shapes import expect


class BatchNormalized(NamedTuple):
    """What ``batch_norm`` returns: its output (B, n), and the batch's mean and biased variance, each (n,)."""

    value: Tensor
    mean: Tensor
    variance: Tensor


def batch_norm(z: Tensor, gamma: Tensor, beta: Tensor, epsilon: float = 1e-5) -> BatchNormalized:
    """z_hat = (z - mean) / sqrt(variance + epsilon), value = gamma z_hat + beta (Ioffe and Szegedy 2015, Algorithm 1).

    For each unit, mean = sum_B z / B and variance = sum_B (z - mean)^2 / B.

    Raises:
        ValueError: z is not (B, n) with B of at least 2, or gamma or beta is not (n,).
    """
    _check_batch(z)
    mean = z.mean(0)
    variance = ((z - mean) ** 2).mean(0)
    return BatchNormalized(batch_norm_inference(z, mean, variance, gamma, beta, epsilon), mean, variance)


def batch_norm_backward(
    delta: Tensor, z: Tensor, gamma: Tensor, epsilon: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dz, dL/dgamma, dL/dbeta, through the mean and the variance too (Ioffe and Szegedy 2015, section 3).

    sum_B dL/dz = 0, as a shift of z does not change the output. With epsilon = 0 a scale of z does not either: then
    sum_B z_hat dL/dz = 0 as well.

    Raises:
        ValueError: as in ``batch_norm``, or delta has not the shape of z.
    """
    _check_batch(z)
    _check_shape(z.shape, delta=delta)
    _check_shape(z.shape[1:], gamma=gamma)
    centred = z - z.mean(0)
    variance = (centred**2).mean(0)
    std = torch.sqrt(variance + epsilon)
    dz_hat = delta * gamma
    dvariance = (dz_hat * centred).sum(0) * -0.5 / std**3
    dmean = -dz_hat.sum(0) / std  # the paper adds dvariance times the mean of -2 (z - mean), which is 0
    dz = dz_hat / std + dvariance * 2 * centred / len(z) + dmean / len(z)
    return dz, (delta * centred / std).sum(0), delta.sum(0)


class RunningStatistics(NamedTuple):
    """The averages over batches that ``batch_norm_inference`` takes, each (n,). They start at 0 and 1."""

    mean: Tensor
    variance: Tensor


def running(
    mean: Tensor,
    variance: Tensor,
    batch_mean: Tensor,
    batch_variance: Tensor,
    batch_size: int,
    momentum: float = 0.1,
) -> RunningStatistics:
    """(1 - momentum) old + momentum batch, with the unbiased variance: batch_variance B / (B - 1).

    As torch.nn.BatchNorm1d: momentum weighs the new batch. The factor B / (B - 1) is in Ioffe and Szegedy 2015, 3.1.

    Args:
        mean: The average so far.
        variance: The average so far.
        batch_mean: That of ``batch_norm``.
        batch_variance: That of ``batch_norm``, biased.
        batch_size: B, at least 2.
        momentum: The weight of this batch.

    Raises:
        ValueError: the four have not one shape.
    """
    _check_shape(mean.shape, variance=variance, batch_mean=batch_mean, batch_variance=batch_variance)
    unbiased = batch_variance * (batch_size / (batch_size - 1))
    return RunningStatistics(
        (1 - momentum) * mean + momentum * batch_mean, (1 - momentum) * variance + momentum * unbiased
    )


def batch_norm_inference(
    z: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor, beta: Tensor, epsilon: float = 1e-5
) -> Tensor:
    """z_hat = (z - mean) / sqrt(variance + epsilon), then gamma z_hat + beta, with statistics that are given.

    No sample depends on another.

    Raises:
        ValueError: mean, variance, gamma or beta is not (n,).
    """
    _check_shape(z.shape[-1:], mean=mean, variance=variance, gamma=gamma, beta=beta)
    return gamma * (z - mean) / torch.sqrt(variance + epsilon) + beta


def layer_norm(z: Tensor, gamma: Tensor, beta: Tensor, epsilon: float = 1e-5) -> Tensor:
    """z_hat = (z - mean) / sqrt(variance + epsilon), then gamma z_hat + beta (Ba, Kiros and Hinton 2016, section 3).

    mean and variance (biased) are over the n units of each sample on its own: training and inference do the same.

    Raises:
        ValueError: gamma or beta is not (n,).
    """
    _check_shape(z.shape[-1:], gamma=gamma, beta=beta)
    z_hat, _ = _standardize(z, epsilon)
    return gamma * z_hat + beta


def layer_norm_backward(
    delta: Tensor, z: Tensor, gamma: Tensor, epsilon: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dz = (g - mean(g) - z_hat mean(g z_hat)) / sqrt(variance + epsilon), g = gamma delta; dL/dgamma, dL/dbeta.

    The means are over the n units. With means over the batch it is ``batch_norm_backward``, written shorter.

    Raises:
        ValueError: gamma is not (n,), or delta has not the shape of z.
    """
    _check_shape(z.shape, delta=delta)
    _check_shape(z.shape[-1:], gamma=gamma)
    z_hat, std = _standardize(z, epsilon)
    g = gamma * delta
    dz = (g - g.mean(-1, keepdim=True) - z_hat * (g * z_hat).mean(-1, keepdim=True)) / std
    n = len(gamma)
    return dz, (delta * z_hat).reshape(-1, n).sum(0), delta.reshape(-1, n).sum(0)


def _standardize(z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """z_hat and sqrt(variance + epsilon) over the last axis, (..., n) and (..., 1)."""
    centred = z - z.mean(-1, keepdim=True)
    std = torch.sqrt((centred**2).mean(-1, keepdim=True) + epsilon)
    return centred / std, std


def _check_batch(z: Tensor) -> None:
    if z.dim() != 2:
        raise ValueError(f"z has shape {tuple(z.shape)}: must be (B, n), a row for each sample")
    if len(z) < 2:
        raise ValueError(
            f"a batch of {len(z)} has no variance: z - mean is 0 and the output beta; take 2 samples or more"
        )


def _check_shape(shape: torch.Size, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        expect(name, tensor, shape)
