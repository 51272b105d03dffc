"""Hooks that leave no trace in copies or files of the model, a tap for compiled graphs, and what they are set on."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from unvanish.gradients.layers import first_tensor


@final
class Tap(torch.autograd.Function):
    """The identity, whose backward pass adds |delta|^2 and the number of its elements to a row of a buffer.

    A compiled graph cannot call a Python hook, but it can contain this.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, buffer: Tensor, row: int) -> Tensor:
        """Return z."""
        ctx.buffer, ctx.row = buffer, row
        return z.clone()

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        """Return delta, after adding it up."""
        ctx.buffer[ctx.row, 0] += delta.to(ctx.buffer.dtype).square().sum()
        ctx.buffer[ctx.row, 1] += delta.numel()
        return delta, None, None


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or a tracer runs the model; its tensors are not those of training."""
    return bool(torch._C._are_functorch_transforms_active() or torch._C._get_tracing_state())


def _ignore(*_: Any, **__: Any) -> None:
    """Stands for a hook in copies and files of the model."""


def _ignored() -> Callable[..., None]:
    return _ignore


@final
class Hook:
    """Calls a method as a hook. Its errors never end training, and copies of the model do not contain it.

    Args:
        fail: Called with an error of the method.
        see: The method.
    """

    __torch_unserializable__ = True

    def __init__(self, fail: Callable[[Exception], None], see: Callable[..., Any]) -> None:
        self._fail, self._see = fail, see

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Return what the method returns; None if it fails."""
        if torch.compiler.is_compiling():
            return self._see(*arguments, **keywords)
        try:
            return self._see(*arguments, **keywords)
        except Exception as error:  # any kind: training must go on
            # Batched derivatives, as of a Jacobian, are not those of training.
            if not any(isinstance(a, Tensor) and "Batched" in str(torch._C._dispatch_keys(a)) for a in arguments):
                self._fail(error)
            return None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _ignored, ()

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return _ignore


def viewed(module: nn.Module, z: Tensor) -> Tensor:
    """The tensor that a linear layer's output is a view of, if it is one.

    It gets the same gradient, even if the view is changed in place, as by ``x = linear(x); x += position``.
    """
    base = z._base if isinstance(module, nn.Linear) and type(z) is Tensor else None
    return base if base is not None and type(base.grad_fn).__name__ == "AddmmBackward0" else z


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """Return ``output`` with the tensor that ``first_tensor`` finds replaced."""
    if isinstance(output, Tensor):
        return tensor
    if is_dataclass(output) and not isinstance(output, dict):
        key = next(f.name for f in fields(output) if first_tensor(getattr(output, f.name)) is not None)
        return replace(output, **{key: with_first_tensor(getattr(output, key), tensor)})  # type: ignore[type-var]
    if isinstance(output, dict):
        key = next(key for key, part in output.items() if first_tensor(part) is not None)
        return output | {key: with_first_tensor(output[key], tensor)}
    index = next(index for index, part in enumerate(output) if first_tensor(part) is not None)
    parts = [*output[:index], with_first_tensor(output[index], tensor), *output[index + 1 :]]
    return type(output)(parts) if type(output) in (list, tuple) else type(output)(*parts)
