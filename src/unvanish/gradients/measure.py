"""What is measured of a gradient, as pure functions of tensors that stay on their device."""

import torch
from torch import Tensor


def norm(tensor: Tensor) -> Tensor:
    """The L2 norm of a tensor, a scalar; as in ``norms``, the squares are summed in float64."""
    result: Tensor = torch.linalg.vector_norm(_real(tensor), dtype=_accumulator(tensor))
    return result


def norms(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of each tensor, (n,).

    A vanished gradient has to be told from none. In float32 the squares of values below 1e-19 lose digits and those of
    values below 1e-23 are zero, so they are summed in float64.
    """
    return torch.stack(torch._foreach_norm([_real(tensor) for tensor in tensors], 2, _accumulator(tensors[0])))


def change_norms(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """The L2 norm of each difference after - before, (n,)."""
    return norms(list(torch._foreach_sub(after, before)))


def _real(tensor: Tensor) -> Tensor:
    """The numbers that a norm runs over: those that a sparse tensor holds, both parts of a complex one."""
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _accumulator(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
