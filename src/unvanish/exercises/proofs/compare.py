"""Compares what a function returns with what it should, and says in one line where they differ."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_map_only

Function = Callable[..., Any]

#: A counterexample is made as small as it can be; nothing is written to disk.
few = settings(
    max_examples=25,
    report_multiple_bugs=False,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
sizes, seeds = st.integers(1, 5), st.integers(0, 2**31)

_CLOSE = 1e-10


class DifferentError(AssertionError):
    """A function returns something else than its proof; the message is one line."""


def drawn(seed: int, *shapes: Sequence[int]) -> list[Tensor]:
    """Normal tensors in float64, of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tuple(shape), generator=generator, dtype=torch.float64) for shape in shapes]


def on_copies(function: Function) -> Function:
    """The same function, given copies: a proof takes its own from these tensors afterwards (relu as ``z.zero_()``)."""

    def copying(*given: Any, **named: Any) -> Any:
        given, named = tree_map_only(Tensor, Tensor.clone, (given, named))
        return function(*given, **named)

    return copying


def autograd(function: Function, delta: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Autograd's gradients of ``function`` at ``inputs``, where its output has the gradient ``delta``."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    return torch.autograd.grad(function(*leaves), leaves, delta)


def same(found: Any, expected: Any, what: str = "the result", source: str = "torch") -> None:
    """Raise ``DifferentError`` unless both are equal to ten digits, in shape and in type.

    Args:
        found: A number, a tensor, or a sequence of them.
        expected: The same.
        what: What ``found`` is called; of a sequence, its parts: ``(h', c')``.
        source: Whose ``expected`` is.
    """
    if isinstance(expected, Tensor):
        _same_tensor(found, expected, what, source)
    elif isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise DifferentError(f"{what} is {_kind(found)}, where {len(expected)} results are expected")
        parts = what.strip("()").split(", ")
        names = parts if len(parts) == len(found) > 1 else [f"{what}[{index}]" for index in range(len(found))]
        for name, one, other in zip(names, found, expected, strict=True):
            same(one, other, name, source)
    elif not _is_number(found):
        raise DifferentError(f"{what} is {_kind(found)}, where a number is expected")
    elif not math.isclose(found, expected, rel_tol=_CLOSE, abs_tol=_CLOSE):
        raise DifferentError(f"{what} is {found:.6g}, where {source} has {expected:.6g}")


def holds(condition: Any, words: str) -> None:
    """Raise ``DifferentError`` with these words, unless the condition holds."""
    if not bool(condition):
        raise DifferentError(words)


def _same_tensor(found: Any, expected: Tensor, what: str, source: str) -> None:
    if not isinstance(found, Tensor):
        raise DifferentError(f"{what} is {_kind(found)}, where a tensor is expected")
    if found.shape != expected.shape:
        raise DifferentError(f"{what} has shape {tuple(found.shape)}, where {source} has {tuple(expected.shape)}")
    if found.dtype != expected.dtype:
        raise DifferentError(f"{what} is of {found.dtype}, where {expected.dtype} is expected")
    found, expected = found.detach(), expected.detach()
    different = ~torch.isclose(found, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    if different.any():
        at = tuple(different.nonzero()[0].tolist())
        place = f"[{', '.join(map(str, at))}]" if different.numel() > 1 else ""
        values = f"{found[at].item():.6g}, where {source} has {expected[at].item():.6g}"
        count = f" ({int(different.sum())} of {different.numel()} values differ)" if different.numel() > 1 else ""
        raise DifferentError(f"{what}{place} is {values}{count}")


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _kind(found: Any) -> str:
    if found is None:
        return "None"
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {len(found)}"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
