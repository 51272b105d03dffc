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
#: A float32 norm outside of this range may have lost its squares to underflow, or to overflow.
_SAFE = (1e-15, 1e15)


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


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each tensor, (n,) in float64.

    A vanished gradient has to be told from none: in float32 the squares of values below 1e-19 lose digits, and those of
    values below 1e-23 are zero. On a GPU all are summed in float64, which is no slower there. On a CPU that takes four
    times as long, so float32 is tried first; what comes out too small or too large is summed again.
    """
    parts = [_real(tensor) for tensor in tensors]
    if parts[0].device.type != "cpu":
        return torch.stack(torch._foreach_norm(parts, 2, accumulator(parts[0].device)))
    if any(part.dtype != torch.float32 for part in parts):
        return torch.stack([_wide_norm(part.flatten()) for part in parts])
    if max(map(Tensor.numel, parts)) <= _PIECE:
        found = torch.stack(torch._foreach_norm(parts, 2))
    else:
        found = torch.stack([_dot(part.flatten(), part.flatten()) for part in parts]).sqrt()
    low, high = _SAFE
    unsafe = [index for index, value in enumerate(found.tolist()) if not low < value < high]
    result = found.double()
    for index in unsafe:
        result[index] = _wide_norm(parts[index].flatten())
    return result


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product; torch's own of long float32 tensors has three to five digits on a CPU, this more."""
    if len(left) <= _LONG:
        return torch.dot(left, right)
    pieces = zip(torch.split(left, _LONG), torch.split(right, _LONG), strict=True)
    return torch.stack([torch.dot(a, b) for a, b in pieces]).sum()


def _wide_norm(flat: Tensor) -> Tensor:
    if len(flat) <= _PIECE or flat.dtype == torch.float64:
        result: Tensor = torch.linalg.vector_norm(flat, dtype=torch.float64)
        return result
    # Piece by piece, because torch would convert the whole tensor first, and leave the cache.
    return _wide_norm(torch.stack(torch._foreach_norm(torch.split(flat, _PIECE), 2, torch.float64)))


def products(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    """The inner product of each pair; in float64 where that of two vanished gradients would be zero."""
    return [_product(local(a), local(b)) for a, b in zip(left, right, strict=True)]


def _product(left: Tensor, right: Tensor) -> Tensor:
    wide = accumulator(right.device)
    if left.is_sparse or right.is_sparse:
        left, right = left.to_dense(), right.to_dense()
    if left.dtype == right.dtype == torch.float32 and right.device.type == "cpu":
        product = _dot(left.flatten(), right.flatten())
        if _SAFE[0] ** 2 < abs(product.item()) < _SAFE[1] ** 2:  # NaN is summed again as well
            return product.to(wide)
    pairs = zip(*(torch.split(_real(tensor).flatten(), _LONG) for tensor in (left, right)), strict=True)
    return torch.stack([torch.dot(a.to(wide), b.to(wide)) for a, b in pairs]).sum()


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


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: its shard, where FSDP2 has distributed it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _real(tensor: Tensor) -> Tensor:
    """The numbers that a norm runs over: those that a sparse tensor holds, both parts of a complex one."""
    tensor = local(tensor)
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
