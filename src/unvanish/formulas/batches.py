"""An epoch, cut into batches; and how much of the gradient's noise the mean over a batch leaves.

Shapes: N samples, B samples of a batch; the last batch of an epoch may be smaller.
"""

import math

import torch
from torch import Tensor


def batches_per_epoch(samples: int, batch_size: int) -> int:
    """ceil(N / B), the number of updates in an epoch: 80 samples by 8 are 10. A last, smaller batch counts."""
    _check_sizes(samples=samples, batch_size=batch_size)
    return math.ceil(samples / batch_size)


def batches(samples: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """One epoch: a random permutation of 0 ... N - 1, cut into batches of indices (B,), each index once."""
    _check_sizes(samples=samples, batch_size=batch_size)
    return torch.split(torch.randperm(samples, generator=generator, device=generator.device), batch_size)


def gradient_variance(sigma_squared: float, batch_size: int, samples: int | None = None) -> float:
    """E |g_batch - g|^2 = sigma^2 / B, the variance of the mean gradient of a batch drawn with replacement.

    Without replacement, from ``samples``: sigma^2 / B * (N - B) / (N - 1) (Cochran 1977, theorem 2.2). It is 0 for the
    whole data set.

    Args:
        sigma_squared: tr(Sigma) = 1/N sum |g_i - g|^2 over the N samples' gradients g_i (1/N, not 1/(N - 1)).
        batch_size: B.
        samples: N, or None for a draw with replacement.

    Raises:
        ValueError: A size is below 1, or B is above N.
    """
    _check_sizes(batch_size=batch_size)
    if samples is None:
        return sigma_squared / batch_size
    _check_sizes(samples=samples)
    if batch_size > samples:
        raise ValueError(f"batch_size is {batch_size}; without replacement it is at most samples, {samples}")
    return sigma_squared / batch_size * (samples - batch_size) / max(samples - 1, 1)  # 0, not 0 / 0, for N = B = 1


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
