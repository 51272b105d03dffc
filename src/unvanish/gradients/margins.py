"""Finds the labels of a hinge loss that was written in operations: relu(1 - y f)."""

from typing import Any

from torch import Tensor

from unvanish.gradients.layers import node_name


def label_of(node: Any) -> Tensor | None:
    """The label y of relu(1 - y f), by its node in autograd's graph; None of all else, and after the backward pass."""
    for names in (("Relu", "Clamp", "ClampMin"), ("Rsub",)):
        if node is None or node_name(node) not in names or not node.next_functions:
            return None
        node = node.next_functions[0][0]
    if node is None or node_name(node) != "Mul":
        return None
    try:
        sides = [node._saved_self, node._saved_other]
    except RuntimeError:  # it was differentiated already
        return None
    return next((y for y in sides if isinstance(y, Tensor) and y.dim() and not y.requires_grad), None)
