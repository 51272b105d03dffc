"""Norms, inner products, moments and counts as pure functions of tensors; results stay on the tensors' device.

Shapes: B samples, d units, T time steps.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: A scalar on the device, or a float: on a CPU, arithmetic with floats takes a tenth of the time.
Number = Tensor | float

#: A tanh is saturated if its absolute value is above this, a sigmoid if it is within 1 minus this of 0 or 1. Their
#: derivatives are then below 2 % and 1 %.
SATURATED = 0.99
#: Counts of a histogram: for either sign one for each octave of a float32, and one for NaN and infinity.
OCTAVES = 512
#: On a CPU, elements that are summed in float32 at once, and those that are converted to float64 at once, or added one
#: after the other.
_LONG, _PIECE = 1 << 18, 1 << 14
#: The squares of a float32 norm outside of this range may have underflowed or overflowed.
_LEAST, _MOST = 1e-15, 1e15


def accumulator(device: torch.device) -> torch.dtype:
    """The type for sums: float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def norm(tensor: Tensor) -> Number:
    """The L2 norm of a tensor, in float64.

    A vanished gradient must not look like none: in float32 the squares of values below 1e-19 lose digits, and those of
    values below 1e-23 are zero. On a GPU the sum is always in float64, which is no slower there. On a CPU float64 takes
    four times as long, so float32 is tried first; results that are too small or too large are summed again.
    """
    if tensor.is_cpu:
        # All elements of a delta may be equal, for instance before a mean; then all roundings add up.
        return _norm_on_cpu(tensor, _pairwise)
    result: Tensor = torch.linalg.vector_norm(_real(tensor), dtype=accumulator(tensor.device))
    return result


def norms(tensors: Sequence[Tensor]) -> Tensor | list[float]:
    """The L2 norm of each tensor, in float64; from a CPU's float32 to five digits at least."""
    if not tensors[0].is_cpu:
        return torch.stack(torch._foreach_norm([*map(_real, tensors)], 2, accumulator(tensors[0].device)))
    found = []
    for tensor in tensors:  # at every step of a training, so that each call counts
        if type(tensor) is Tensor and tensor.dtype is torch.float32 and tensor.layout is torch.strided:
            flat = tensor.flatten()
            norm = math.sqrt(torch.dot(flat, flat).item() if flat.numel() <= _PIECE else _dot(flat, flat))
            found.append(norm if _LEAST < norm < _MOST else _wide_norm(flat).item())  # NaN is summed again as well
        else:
            found.append(_norm_on_cpu(tensor, _dot))
    return found


def _norm_on_cpu(tensor: Tensor, dot: Callable[[Tensor, Tensor], float]) -> float:
    flat = _real(tensor).flatten()
    if flat.dtype is torch.float32:
        found = math.sqrt(dot(flat, flat))
        if _LEAST < found < _MOST:
            return found
    return _wide_norm(flat).item()


def _dot(left: Tensor, right: Tensor) -> float:
    """The inner product: torch.dot of long float32 tensors has only three to five digits on a CPU."""
    if left.numel() <= _PIECE:
        return torch.dot(left, right).item()
    # Beside one large element thousands of small ones are lost, as those of positions beside a class token.
    if left.numel() <= _LONG:  # splitting takes as long as multiplying
        return _pairwise(left, right)
    pieces = zip(torch.split(left, _LONG), torch.split(right, _LONG), strict=True)
    return sum(_pairwise(a, b) for a, b in pieces)


def _pairwise(left: Tensor, right: Tensor) -> float:
    """The inner product to seven digits, in twice the time."""
    return (left * right).sum().item()  # sum() adds in pairs, dot() one after the other


def _wide_norm(flat: Tensor) -> Tensor:
    if flat.numel() <= _PIECE or flat.dtype == torch.float64:
        result: Tensor = torch.linalg.vector_norm(flat, dtype=torch.float64)
        return result
    # In pieces that stay in the cache; torch would convert the whole tensor first.
    return _wide_norm(torch.stack(torch._foreach_norm(torch.split(flat, _PIECE), 2, torch.float64)))


def products(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Number]:
    """The inner product of each pair; in float64 if float32 would underflow, as with two vanished gradients."""
    return [_product(local(a), local(b)) for a, b in zip(left, right, strict=True)]


def _product(left: Tensor, right: Tensor) -> Number:
    wide = accumulator(right.device)
    if left.is_sparse or right.is_sparse:
        left, right = left.to_dense(), right.to_dense()
    if left.dtype == right.dtype == torch.float32 and right.is_cpu:
        product = _dot(left.flatten(), right.flatten())
        if _LEAST**2 < abs(product) < _MOST**2:  # NaN is summed again as well
            return product
    pairs = zip(*(torch.split(_real(tensor).flatten(), _LONG) for tensor in (left, right)), strict=True)
    return number(torch.stack([torch.dot(a.to(wide), b.to(wide)) for a, b in pairs]).sum())


def number(scalar: Tensor) -> Number:
    """A scalar as a float if it is on the CPU; a GPU's stays there, because reading it would synchronize."""
    return scalar.item() if scalar.is_cpu else scalar.to(accumulator(scalar.device))


def gathered(numbers: Sequence[Any]) -> Tensor | list[float]:
    """Numbers side by side, (n,)."""
    if not isinstance(numbers[0], Tensor):
        return [*numbers]
    wide = accumulator(numbers[0].device)
    return torch.stack([scalar if scalar.dtype is wide else scalar.to(wide) for scalar in numbers])


def moments(activation: Tensor) -> tuple[Number, Number]:
    """The mean of an activation, and the norm of its deviations from the mean.

    The mean of squares would lose a sigmoid's tiny variance around 0.5 in float32.
    """
    if activation.dtype in (torch.float16, torch.bfloat16):
        activation = activation.float()
    mean = activation.mean()
    return number(mean), norm(activation - mean)


def saturated(activation: Tensor, kind: str) -> Number:
    """The number of saturated values of a tanh or a sigmoid (see ``SATURATED``)."""
    low = 1 - SATURATED if kind == "sigmoid" else -SATURATED
    return number(((activation < low) | (activation > SATURATED)).sum())


def largest_by_unit(activation: Tensor, unit_axis: int) -> Tensor:
    """Each unit's largest value over the batch and all positions, (d,). A ReLU unit is dead if it is not positive."""
    if activation.dim() == 1:
        return activation
    axes = [*range(activation.dim())]
    del axes[unit_axis]
    return activation.amax(axes)


def octave_counts(tensor: Tensor) -> Tensor:
    """A log-spaced histogram, (512,): entry e counts float32 values of sign and biased exponent e, sign first.

    Entry 0 (256 for negative ones) holds zeros and subnormals, e in [1, 254] magnitudes in [2^(e-127), 2^(e-126)), and
    255 (511) NaN and infinities. The octave is read from a float's exponent bits, without comparing or sorting.
    """
    values = _real(tensor)
    bits = values.to(torch.float32).contiguous().view(torch.int32)
    octaves = ((bits >> 23) & (OCTAVES - 1)).flatten()
    # Not histc, whose float32 counts end at 2^24, nor bincount, which synchronizes with a GPU.
    counts = torch.zeros(OCTAVES, dtype=torch.int64, device=octaves.device)
    counts.index_add_(0, octaves, torch.ones_like(octaves, dtype=torch.int64))
    if tensor.is_sparse:
        counts[0] += tensor.numel() - values.numel()
    return counts


def local(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor that FSDP2 distributes, other tensors as they are."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _real(tensor: Tensor) -> Tensor:
    """The elements that a norm sums: a sparse tensor's stored values, a complex one's real and imaginary parts."""
    tensor = local(tensor)
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
