"""Finds out whether a network's answers depend on other samples of the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from unvanish.gradients.layers import all_tensors

#: A change of more units in the last place of the largest answer is not due to rounding.
_CHANGED = 100
#: An axis of one or two entries is often not the batch's: channels, directions, or one text as an example.
_FEWEST = 3


class UnclearError(ValueError):
    """Why it cannot be told whether samples mix."""


@torch.no_grad()
def mixed(model: nn.Module, x: Any, y: Tensor) -> int:
    """The number of samples whose answers change when another sample is replaced, in evaluation mode.

    The batch is the first axis of all inputs. For sequences with a target at each position either of the first two
    axes may be the batch; samples mix only if they do along both.

    Args:
        model: The network; its mode and its buffers may change.
        x: Inputs, (B, ...), or several in a tuple, list or mapping.
        y: Targets, (B, ...).

    Raises:
        UnclearError: there are fewer than three samples, evaluation mode fails, or it is not known which axis is the
            batch's or whether samples are meant to be independent.
    """
    inputs, size = all_tensors(x), len(y) if y.dim() else 0
    if not inputs or any(not tensor.dim() or len(tensor) != size for tensor in inputs):
        raise UnclearError("inputs and targets have first axes of different lengths")
    if size < _FEWEST:
        raise UnclearError(f"the batch has fewer than {_FEWEST} samples")
    if any(isinstance(module, _BatchNorm) and module.running_mean is None for module in model.modules()):
        raise UnclearError("a batch normalization without running statistics takes those of the batch")
    if _relates_samples(model, inputs, size):
        raise UnclearError("a tensor relates samples to one another, as the edges of a graph do")
    model.eval()
    found = _changed(model, x, 0)
    if found and y.dim() > 1 and y.shape[1] > 1 and all(tensor.shape[:2] == y.shape[:2] for tensor in inputs):
        if y.shape[1] < _FEWEST:
            raise UnclearError(f"either of the first two axes may be the batch, and one is shorter than {_FEWEST}")
        return found if _changed(model, x, 1) else 0
    return found


def _relates_samples(model: nn.Module, inputs: Sequence[Tensor], samples: int) -> bool:
    """Whether the model keeps, or takes beside its data, an adjacency matrix or a list of edges."""
    own = (value for module in model.modules() for value in (*vars(module).values(), *module._buffers.values()))
    held = [value for value in own if isinstance(value, Tensor) and value.dim() == 2]
    is_list = any(len(value) == 2 and not value.is_floating_point() for value in held)
    beside = inputs if len(inputs) > 1 else ()  # one alone is data, however many features it has
    return is_list or any(value.shape == (samples, samples) for value in (*held, *beside))


def _changed(model: nn.Module, x: Any, axis: int) -> int:
    """The number of entries along an axis, but the first, whose answers change with the first entry of ``x``."""

    def replaced(tensor: Tensor) -> Tensor:
        other = tensor.clone()
        other.select(axis, 0).copy_(tensor.select(axis, 1))
        return other

    size = all_tensors(x)[0].shape[axis]
    pairs = zip(_answers(model, x), _answers(model, tree_map_only(Tensor, replaced, x)), strict=False)
    fitting = [(one, two) for one, two in pairs if one.dim() > axis and one.shape[axis] == size == two.shape[axis]]
    if not fitting:
        raise UnclearError("no output has an entry for each sample")
    changed = torch.zeros(size - 1, dtype=torch.bool, device=fitting[0][0].device)
    for one, two in fitting:
        rest = (two - one).abs().narrow(axis, 1, len(changed)).movedim(axis, 0).flatten(1)
        changed |= (rest > _CHANGED * torch.finfo(one.dtype).eps * one.abs().amax()).any(1)
    return int(changed.sum())


def _answers(model: nn.Module, x: Any) -> Sequence[Tensor]:
    """The floating-point tensors that a model returns; random numbers are the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            answers = all_tensors(model(x))
        except Exception as error:  # of whatever kind: the code is the user's
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise UnclearError(f"a pass in evaluation mode fails ({why})") from error
        return [answer.detach() for answer in answers if answer.is_floating_point()]
