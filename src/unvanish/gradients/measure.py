"""What is measured of a gradient, as pure functions of tensors; results stay on the tensors' device.

Shapes: B samples, d units, T time steps.
"""

import torch
from torch import Tensor

#: |tanh| above, or a sigmoid closer to 0 or 1 than 1 minus this, is saturated: its derivative is below 2 % and 1 %.
SATURATED = 0.99
#: Counts of a histogram: one for each octave of a float32 of either sign, and one for its NaN and infinities.
OCTAVES = 512
#: Numbers that are summed in float32 at once, and that are converted to float64 at once, on a CPU.
_ROW, _PART = 512, 1 << 16


def accumulator(device: torch.device) -> torch.dtype:
    """The type in which sums are kept: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def norm(tensor: Tensor) -> Tensor:
    """The L2 norm of a tensor, a scalar in float64."""
    return norms([tensor])[0]


def norms(tensors: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """The L2 norm of each tensor, (n,) in float64.

    A vanished gradient has to be told from none. In float32 the squares of values below 1e-19 lose digits and those of
    values below 1e-23 are zero, so they are summed in float64, unless a ``dtype`` is given.
    """
    wide = accumulator(tensors[0].device)
    parts = [_shortened(_real(tensor), dtype or wide) for tensor in tensors]
    return torch.stack(torch._foreach_norm(parts, 2, wide if tensors[0].device.type == "cpu" else dtype or wide)).to(
        wide
    )


def _shortened(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """On a CPU: the norms of a long tensor's parts, of which the norm is the same; elsewhere the tensor itself.

    There torch sums one after the other, and of a million numbers in float32 only four digits are right; and it
    converts a tensor as a whole, which costs ten times what parts cost that stay in the cache.
    """
    if tensor.device.type != "cpu" or tensor.numel() <= _ROW:
        return tensor
    flat = tensor.flatten()
    if dtype == torch.float64:
        return flat if len(flat) <= _PART else torch.stack(torch._foreach_norm(torch.split(flat, _PART), 2, dtype))
    whole = len(flat) // _ROW * _ROW
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, _ROW), dim=1, dtype=dtype)
    return rows if whole == len(flat) else torch.cat([rows, flat[whole:].to(dtype)])


def change_norms(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """The L2 norm of each difference after - before, (n,)."""
    return norms(list(torch._foreach_sub(after, before)))


def directions(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor divided by its norm, so that products of two of them do not underflow; zero where that is zero."""
    return [_direction(tensor, length) for tensor, length in zip(tensors, norms(tensors), strict=True)]


def _direction(tensor: Tensor, length: Tensor) -> Tensor:
    length = torch.where(length == 0, 1, length)
    if tensor.is_sparse:
        tensor = tensor.coalesce()
        values = _direction(tensor.values(), length)
        return torch.sparse_coo_tensor(
            tensor.indices(), values, tensor.shape, is_coalesced=True, check_invariants=False
        )
    # Divided in float64, because a norm below 1e-38 has few digits in float32.
    return (tensor.to(torch.promote_types(tensor.dtype, length.dtype)) / length).to(tensor.dtype)


def products(directions: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """The inner product of each tensor with a unit vector, (n,); over the tensor's norm it is their cosine."""
    return torch.stack([_product(u, tensor) for u, tensor in zip(directions, tensors, strict=True)])


def _product(direction: Tensor, tensor: Tensor) -> Tensor:
    wide = accumulator(tensor.device)
    if tensor.is_sparse != direction.is_sparse:
        direction, tensor = direction.to_dense(), tensor.to_dense()
    if tensor.is_sparse:
        return (direction * tensor.coalesce()).coalesce().values().sum(dtype=wide)
    return (_real(direction) * _real(tensor)).sum(dtype=wide)


def moments(activation: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and the sum of squares of an activation, scalars that add up over batches and ranks.

    The squares are taken about the mean first: around 0.5, a sigmoid's tiny variance would be lost in float32.
    """
    wide = accumulator(activation.device)
    mean = activation.mean(dtype=torch.promote_types(activation.dtype, torch.float32))
    spread = norm(activation - mean)
    mean = mean.to(wide)
    return mean * activation.numel(), spread.square() + mean.square() * activation.numel()


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
    # Not histc, whose float32 counts end at 2^24 and which refuses to run where algorithms must be deterministic.
    counts = torch.bincount(((bits >> 23) & (OCTAVES - 1)).flatten(), minlength=OCTAVES)
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
