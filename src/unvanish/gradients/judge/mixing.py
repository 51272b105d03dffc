"""Finds out whether a network's answers depend on other samples of the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from unvanish.gradients.layers import all_tensors

#: A change of more units in the last place of the largest answer is not due to rounding.
_CHANGED = 100


@torch.no_grad()
def mixed(model: nn.Module, x: Any, y: Tensor) -> int:
    """The number of samples whose answers change when another sample is replaced, in evaluation mode.

    0 if nothing can be said: inputs that are not one tensor, no answer for each sample, normalization that uses the
    statistics of the batch in evaluation mode too. For sequences with a target at each position either of the first two
    axes may be the batch; samples mix only if they do along both.

    Args:
        model: The network; its mode and its buffers may change.
        x: Inputs, (B, ...).
        y: Targets.
    """
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    if not isinstance(x, Tensor) or x.dim() < 2 or any(module.running_mean is None for module in norms):
        return 0
    is_sequence = y.dim() > 1 and y.shape[:2] == x.shape[:2] and y.shape[1] > 1
    if not is_sequence and (y.shape[:1] != x.shape[:1] or y.numel() != len(y)):
        return 0
    model.eval()
    changed = [_changed(model, x, axis) for axis in ((0, 1) if is_sequence else (0,))]
    return changed[0] if all(changed) else 0


def _changed(model: nn.Module, x: Tensor, axis: int) -> int:
    """The number of entries along an axis, but the first, whose answers change with the first entry of ``x``."""
    if x.shape[axis] < 3:
        return 0
    other = x.clone()
    other.select(axis, 0).copy_(x.select(axis, 1))
    before, after = _answers(model, x), _answers(model, other)
    if len(before) != len(after) or not before:
        return 0
    changed = torch.zeros(x.shape[axis] - 1, dtype=torch.bool, device=x.device)
    for one, two in zip(before, after, strict=True):
        if one.dim() <= axis or one.shape != two.shape or one.shape[axis] != x.shape[axis]:
            return 0  # it is not known which of its numbers belong to which entry
        rest = (two - one).abs().narrow(axis, 1, len(changed)).movedim(axis, 0).flatten(1)
        changed |= (rest > _CHANGED * torch.finfo(one.dtype).eps * one.abs().amax()).any(1)
    return int(changed.sum())


def _answers(model: nn.Module, x: Tensor) -> Sequence[Tensor]:
    """The floating-point tensors that a model returns; random numbers are the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [answer.detach() for answer in all_tensors(model(x)) if answer.is_floating_point()]
