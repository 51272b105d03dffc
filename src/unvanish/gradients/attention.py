"""Finds softmaxes in autograd's graph whose axis is not the one that is summed over afterwards."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from unvanish.gradients.graph import Node
from unvanish.gradients.layers import VIEWS, node_name, shape_of, signed

#: Largest number of nodes between a softmax and the product before or after it.
_NEAR = 16
_PRODUCTS = ("Bmm", "Mm")
_SCORES = (*_PRODUCTS, "Baddbmm")
_RESHAPED = ("View", "UnsafeView", "ReshapeAlias")
#: Elementwise operations, which leave every axis in its place.
_ALONE = ("Mul", "Div", "NativeDropout", "Clone", "ToCopy", "MaskedFill", "Add", "Sub", "Where")


@dataclass(frozen=True)
class Astray:
    """A softmax whose axis is not the one that its result is then summed over.

    Args:
        axis: The axis of the softmax.
        summed: The axis of its result over which the weighted values are summed.
        shape: Shape of its result.
        is_attention: Whether its input is a product of two computed tensors, such as queries and keys.
    """

    axis: int
    summed: int
    shape: tuple[int, ...]
    is_attention: bool


def astray(nodes: Iterable[Node]) -> Iterator[Astray]:
    """Find them in a graph. Softmaxes behind operations whose axes cannot be followed are left out."""
    for node in nodes:
        name, shape = node_name(node), shape_of(node)
        operands = [before for before, _ in node.next_functions]
        if name in _PRODUCTS and len(operands) == 2:
            rank = len(shape)
            ends = [(operands[0], rank - 1), (operands[1], rank - 2)]
        elif name == "Sum" and operands and node_name(operands[0]) == "Mul" and len(_axes(node)) == 1:
            rank = len(shape_of(operands[0]))
            factors = [before for before, _ in operands[0].next_functions]
            ends = [(f, _axes(node)[0] % rank - rank + len(shape_of(f))) for f in factors if f is not None]
        else:
            continue
        for end, axis in ends:
            if end is not None and (found := _softmax(end, axis)):
                yield found


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(signed(axis) for axis in getattr(node, "_saved_dim", None) or ())


def _softmax(node: Node, axis: int | None) -> Astray | None:
    """The softmax that computes a factor, if it runs over another axis than ``axis`` of the factor."""
    for _ in range(_NEAR):
        if node is None or axis is None or axis < 0:
            return None
        name, shape = node_name(node), shape_of(node)
        if name == "Softmax":
            own = signed(node._saved_dim) % len(shape)
            is_sum = shape[axis] > 1  # of axes with one entry each it is not known which is which, nor does it matter
            return Astray(own, axis, shape, _is_scored(node)) if own != axis and is_sum else None
        befores = [before for before, _ in node.next_functions if before is not None]
        if len(befores) != 1:
            return None  # of two that are combined nobody knows which it is
        axis = _before(node, name, shape, axis)
        node = befores[0]
    return None


def _before(node: Node, name: str, shape: tuple[int, ...], axis: int) -> int | None:
    """The axis of a node's input that becomes ``axis`` of its result; None if there is no such axis."""
    if name in _RESHAPED:
        sizes = tuple(node._saved_self_sym_sizes)
        ahead = math.prod(shape[:axis])
        same = (i for i, size in enumerate(sizes) if size == shape[axis] and math.prod(sizes[:i]) == ahead)
        return next(same, None)
    if name == "Expand":
        sizes = tuple(node._saved_self_sym_sizes)
        before = axis - len(shape) + len(sizes)
        return before if before >= 0 and sizes[before] == shape[axis] else None
    if name == "Permute":
        return int(signed(node._saved_dims[axis]) % len(shape))
    if name in ("Transpose", "T"):
        pair = [signed(node._saved_dim0) % len(shape), signed(node._saved_dim1) % len(shape)] if name != "T" else [0, 1]
        return pair[1 - pair.index(axis)] if axis in pair else axis
    if name == "Unsqueeze":
        new = signed(node._saved_dim) % len(shape)
        return None if axis == new else axis - (axis > new)
    return axis if name in _ALONE else None


def _is_scored(node: Node) -> bool:
    """Whether the input of a softmax is a product of two computed tensors."""
    for _ in range(_NEAR):
        befores = [before for before, _ in node.next_functions if before is not None]
        if not befores:
            return False
        node = befores[0]
        name = node_name(node)
        if name in _SCORES:
            # The factors of a layer's product are its weights, which come from nothing else.
            return all(before is not None and _is_made(before) for before, _ in node.next_functions[-2:])
        if name not in (*VIEWS, *_ALONE, "Expand"):
            return False
    return False


def _is_made(node: Node) -> bool:
    """Whether a factor is computed, and not a weight."""
    for _ in range(_NEAR):
        if hasattr(node, "variable"):
            return False
        befores = [before for before, _ in node.next_functions if before is not None]
        if node_name(node) not in (*VIEWS, "Expand", "Clone"):
            return True
        node = befores[0]
    return True
