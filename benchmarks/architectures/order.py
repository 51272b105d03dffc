"""Which layer's output another's is made of, from autograd's graph and not from the order of calls."""

from collections.abc import Mapping, Sequence
from typing import Any


def wholly_downstream(root: Any, calls: Mapping[Any, str]) -> dict[str, set[str]]:
    """For each layer those of which every call is made of every call of it.

    Args:
        root: The loss's node in autograd's graph.
        calls: The layer by the node that a call of it has left; a layer may be called several times.
    """
    numbers = {node: number for number, node in enumerate(calls)}
    found = _downstream(root, numbers)
    all_calls: dict[str, int] = {}
    after: dict[str, int] = {}
    for node, layer in calls.items():
        all_calls[layer] = all_calls.get(layer, 0) | 1 << numbers[node]
        after[layer] = after.get(layer, -1) & found.get(node, 0)
    return {
        layer: {other for other, bits in all_calls.items() if bits & following == bits}
        for layer, following in after.items()
        if following
    }


def _downstream(root: Any, numbers: Mapping[Any, int]) -> dict[Any, int]:
    """For each numbered node the set of those between it and the loss, as bits of an integer."""
    between: dict[Any, int] = {root: 0}
    found: dict[Any, int] = {}
    for node in _consumers_first(root):
        bits = between.pop(node)
        if node in numbers:
            found[node] = bits
            bits |= 1 << numbers[node]
        for producer, _ in node.next_functions:
            if producer is not None:
                between[producer] = between.get(producer, 0) | bits
    return found


def _consumers_first(root: Any) -> list[Any]:
    finished: list[Any] = []
    entered = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, producers = stack[-1]
        for producer, _ in producers:
            if producer is not None and producer not in entered:
                entered.add(producer)
                stack.append((producer, iter(producer.next_functions)))
                break
        else:
            finished.append(node)
            stack.pop()
    return finished[::-1]


def misplaced(order: Sequence[str], found: Mapping[str, set[str]]) -> list[str]:
    """The layers of ``order`` that come after one that is made of them; where each is made of the other, neither.

    Where there is none, nothing is upstream of the first layer and nothing downstream of the last.

    Args:
        order: The layers, as a recorder gives them.
        found: The layers downstream of each.
    """
    before: list[str] = []
    wrong: list[str] = []
    for layer in order:
        after = found.get(layer, set())
        if late := [other for other in before if other in after and layer not in found.get(other, ())]:
            wrong.append(f"{layer} after {late[0]}")
        before.append(layer)
    return wrong
