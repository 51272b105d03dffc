"""What is measured of a gradient, as pure functions of tensors; results stay on the tensors' device.

Shapes: B samples, d units, T time steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

#: |tanh| above, or a sigmoid closer to 0 or 1 than 1 minus this, is saturated: its derivative is below 2 % and 1 %.
SATURATED = 0.99
#: Counts of a histogram: one for each octave of a float32 of either sign, and one for its NaN and infinities.
OCTAVES = 512
#: Numbers that are summed in float32 at once, and that are converted to float64 at once, on a CPU.
_LONG, _PIECE = 1 << 16, 1 << 14


def accumulator(device: torch.device) -> torch.dtype:
    """The type in which sums are kept: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def norm(tensor: Tensor) -> Tensor:
    """The L2 norm of a tensor, a scalar in float64."""
    part = _real(tensor)
    if part.device.type == "cpu":
        return _wide_norm(part.flatten())
    result: Tensor = torch.linalg.vector_norm(part, dtype=accumulator(part.device))
    return result


def norms(tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """The L2 norm of each tensor, (n,) in float64 or in ``dtype``.

    A vanished gradient has to be told from none. In float32 the squares of values below 1e-19 lose digits and those of
    values below 1e-23 are zero, so they are summed in float64, unless a ``dtype`` is given.
    """
    parts = [_real(tensor) for tensor in tensors]
    if tensors[0].device.type != "cpu" or (dtype and max(map(Tensor.numel, parts)) <= _PIECE):
        return torch.stack(torch._foreach_norm(parts, 2, dtype or accumulator(tensors[0].device)))
    if dtype:
        return torch.stack([_square(part.flatten().to(dtype)) for part in parts]).sqrt()
    return torch.stack([_wide_norm(part.flatten()) for part in parts])


def _square(flat: Tensor) -> Tensor:
    """The sum of squares; torch's norm of a long float32 tensor has three to five digits on a CPU, this more."""
    if len(flat) <= _LONG:
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(piece, piece) for piece in torch.split(flat, _LONG)]).sum()


def _wide_norm(flat: Tensor) -> Tensor:
    if len(flat) <= _PIECE or flat.dtype == torch.float64:
        result: Tensor = torch.linalg.vector_norm(flat, dtype=torch.float64)
        return result
    # Piece by piece, because torch would convert the whole tensor first, and leave the cache.
    return _wide_norm(torch.stack(torch._foreach_norm(torch.split(flat, _PIECE), 2, torch.float64)))


def direction(tensor: Tensor, length: Tensor) -> Tensor:
    """A tensor divided by its norm, so that products of two of them do not underflow; zero where that is zero."""
    length = torch.where(length == 0, 1, length)
    if tensor.is_sparse:
        tensor = tensor.coalesce()
        values = direction(tensor.values(), length)
        return torch.sparse_coo_tensor(
            tensor.indices(), values, tensor.shape, is_coalesced=True, check_invariants=False
        )
    # Divided in float64, because a norm below 1e-38 has few digits in float32.
    return (tensor.to(torch.promote_types(tensor.dtype, length.dtype)) / length).to(tensor.dtype)


def products(directions: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """The inner product of each tensor with a direction, (n,) in float64."""
    return torch.stack([_product(u, tensor) for u, tensor in zip(directions, tensors, strict=True)])


def _product(direction: Tensor, tensor: Tensor) -> Tensor:
    wide = accumulator(tensor.device)
    if tensor.is_sparse != direction.is_sparse:
        direction, tensor = direction.to_dense(), tensor.to_dense()
    if tensor.dtype == torch.float32 and not tensor.is_sparse:
        return torch.dot(direction.flatten(), tensor.flatten()).to(wide)
    if tensor.is_sparse:
        return (direction * tensor.coalesce()).coalesce().values().sum(dtype=wide)
    return (_real(direction) * _real(tensor)).sum(dtype=wide)


def moments(activation: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of an activation and the norm of its deviations from that, scalars.

    Of the squares themselves, a sigmoid's tiny variance around 0.5 would be lost in float32.
    """
    if activation.dtype in (torch.float16, torch.bfloat16):
        activation = activation.float()
    mean = activation.mean()
    return mean.to(accumulator(activation.device)), norm(activation - mean)


def saturated(activation: Tensor, kind: str) -> Tensor:
    """How many values of a tanh are near -1 or 1, of a sigmoid near 0 or 1: a scalar."""
    low = 1 - SATURATED if kind == "sigmoid" else -SATURATED
    return ((activation < low) | (activation > SATURATED)).sum()


def largest_by_unit(activation: Tensor, unit_axis: int) -> Tensor:
    """Each unit's largest value over the batch and all positions, (d,); a ReLU unit whose is not positive is dead."""
    if activation.dim() == 1:
        return activation
    return activation.movedim(unit_axis, 0).flatten(1).amax(1)


def octave_counts(tensor: Tensor) -> Tensor:
    """A log-spaced histogram, (512,): entry e counts float32 values of sign and biased exponent e, sign first.

    Entry 0 (256 for negative ones) holds zeros and subnormals, e in [1, 254] magnitudes in [2^(e-127), 2^(e-126)), and
    255 (511) NaN and infinities. Nothing is compared or sorted: the octave of a float is written in its bits.
    """
    values = _real(tensor)
    bits = values.to(torch.float32).contiguous().view(torch.int32)
    octaves = ((bits >> 23) & (OCTAVES - 1)).flatten()
    # Not histc, whose float32 counts end at 2^24, nor bincount, for which the host waits on a GPU.
    counts = torch.zeros(OCTAVES, dtype=torch.int64, device=octaves.device)
    counts.index_add_(0, octaves, torch.ones_like(octaves, dtype=torch.int64))
    if tensor.is_sparse:
        counts[0] += tensor.numel() - values.numel()
    return counts


def noise_scale(small_square: float, big_square: float, small_batch: float, big_batch: float) -> tuple[float, float]:
    """Estimates tr(Sigma) and |G|^2 from gradients of two batch sizes (McCandlish et al. 2018, appendix A.1).

    Both are unbiased, their ratio, the gradient noise scale, is not: average each over steps before dividing.

    Args:
        small_square: Mean of |gradient|^2 over small batches.
        big_square: |gradient|^2 of the big batch.
        small_batch: Samples in a small batch.
        big_batch: Samples in the big batch.
    """
    signal = (big_batch * big_square - small_batch * small_square) / (big_batch - small_batch)
    variance = (small_square - big_square) / (1 / small_batch - 1 / big_batch)
    return variance, signal


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: its shard, where FSDP2 has distributed it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _real(tensor: Tensor) -> Tensor:
    """The numbers that a norm runs over: those that a sparse tensor holds, both parts of a complex one."""
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
