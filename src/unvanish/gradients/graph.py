"""Reads autograd's graph of a loss: the order of the layers, the trunk that all paths share, and the residual sums."""

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, final

from torch import Tensor

Node = Any  # of autograd's graph; torch gives it no public type

#: Graphs with more nodes are not read, because the walk would take longer than the step.
LARGEST = 50_000


class Trunk(NamedTuple):
    """The layers that lie on every path from a first layer to the loss.

    Args:
        name: Empty for the longest trunk; for that of another tower, the common prefix of the names of its own layers.
        layers: Names of layers and sums, from the input to the loss. The name of a sum, in which a branch joins the
            residual stream, ends with "+".
        heads: If the trunk has several ends, the last layer of each.
    """

    name: str
    layers: tuple[str, ...]
    heads: tuple[str, ...] = ()


class Look(NamedTuple):
    """What was read in a graph.

    Args:
        distance: For each layer, the number of layers between it and the loss on the longest path.
        trunks: The trunks, the longest first.
        sums: Names and nodes of the sums in which branches join a trunk.
        times: For calls of a layer that feed later calls of the same layer, their position in this sequence, from 1.
        leaves: The leaf tensors that require a gradient, with their distance.
        cut: The nodes of calls that do not reach the loss, and whose inputs do not reach it in another way either.
        nodes: All nodes, from the loss to the leaves.
    """

    distance: dict[str, int]
    trunks: list[Trunk]
    sums: list[tuple[str, Node]]
    times: dict[Node, int]
    leaves: list[tuple[Tensor, int]]
    cut: list[Node]
    nodes: Sequence[Node]


def look(
    roots: Iterable[Node], calls: Mapping[Node, str], over: Mapping[int, str], below: Mapping[int, int]
) -> Look | None:
    """Read the graph behind some nodes; None if it has more than ``LARGEST`` nodes.

    Args:
        roots: The nodes of the loss, or of a model's outputs.
        calls: The nodes of the layers' outputs, with the layers' names, in the order of the calls.
        over: Names of further layers, by the sequence number of their output's node.
        below: For views, the sequence number of the node that they view, by their own. A view that is changed in
            place is not part of the graph.
    """
    used = _from_leaves([node for node in roots if node is not None])
    if used is None:
        return None
    order = [*reversed(used)]
    position = {node: index for index, node in enumerate(order)}
    # Flat, since thousands of small lists a step would keep Python's garbage collector at work.
    edges = tuple(number for node in order for number in (*[position[before] for before in used[node]], -1))
    points = {position[node]: name for node, name in calls.items() if node in position}
    if over:
        numbered = ((index, node._sequence_nr()) for index, node in reversed([*enumerate(order)]))
        points |= {index: over[number] for index, number in numbered if number in over}
    if below:
        place = {node._sequence_nr(): index for index, node in enumerate(order)}
        named = [(number, name) for node, name in calls.items() if (number := node._sequence_nr()) in below]
        for number, name in (*named, *((number, over[number]) for number in below.keys() & over.keys())):
            if number not in place and below[number] in place:
                points[place[below[number]]] = name
    distance, trunks, sums = _structure(edges, tuple(points.items()))
    layers: dict[str, int] = {}
    for index, name in points.items():
        layers[name] = min(layers.get(name, distance[index]), distance[index])
    return Look(
        layers,
        trunks,
        [(name, order[index]) for name, index in sums],
        _times(order, position, points),
        [(n.variable, distance[index]) for index, n in enumerate(order) if not used[n] and _is_leaf(n)],
        [n for n, name in calls.items() if n not in position and name not in layers and not _meets(n, position)],
        order,
    )


def _before(node: Node) -> list[Node]:
    return [before for before, _ in node.next_functions if before is not None]


def _is_leaf(node: Node) -> bool:
    return isinstance(getattr(node, "variable", None), Tensor)


@lru_cache(maxsize=4)
def _structure(
    edges: Sequence[int], points: Iterable[tuple[int, str]]
) -> tuple[list[int], list[Trunk], list[tuple[str, int]]]:
    """The distances, trunks and sums of a graph; cached, since most networks have the same graph at every step.

    Args:
        edges: For each node, the nodes whose results it uses, followed by -1.
        points: The nodes of layers, with the layers' names.
    """
    above: list[list[int]] = [[] for _ in range(edges.count(-1))]  # those that use a node's result
    index = 0
    for before in edges:
        if before < 0:
            index += 1
        else:
            above[before].append(index)
    named = dict(points)
    distance = _distances(above, named)
    return distance, *_trunks(above, named, distance, _dominators(above))


def _from_leaves(roots: Sequence[Node]) -> dict[Node, list[Node]] | None:
    """All nodes in topological order, each after the nodes whose results it uses, with a list of these."""
    done: dict[Node, list[Node]] = {}
    seen: set[Node] = set()
    stack: list[tuple[Node, list[Node], Iterator[Node]]] = [(None, [], iter(roots))]
    while stack:
        node, used, rest = stack[-1]
        for before in rest:
            if before not in seen:
                seen.add(before)
                own = _before(before)
                stack.append((before, own, iter(own)))
                break
        else:
            stack.pop()
            done[node] = used
        if len(seen) > LARGEST:
            return None
    del done[None]
    return done


def _dominators(above: Sequence[Sequence[int]]) -> list[int]:
    """For each node, its immediate dominator: the nearest node on all paths to the loss, or -1 (Cooper et al. 2001)."""
    dominator: list[int] = []
    for users in above:
        common = users[0] if users else -1
        for user in users[1:]:
            other = user
            while common != other:
                # Nodes are numbered from the loss on, so the larger number is farther from it.
                if common > other:
                    common = dominator[common]
                else:
                    other = dominator[other]
        dominator.append(common)
    return dominator


def _distances(above: Sequence[Sequence[int]], points: Mapping[int, str]) -> list[int]:
    distances: list[int] = []
    beyond: list[int] = []  # what a node adds to the distance of those that it uses
    for index, users in enumerate(above):
        distances.append(max([beyond[user] for user in users], default=0))
        beyond.append(distances[-1] + (index in points))
    return distances


def _trunks(
    above: Sequence[Sequence[int]],
    points: Mapping[int, str],
    distance: Sequence[int],
    dominator: Sequence[int],
) -> tuple[list[Trunk], list[tuple[str, int]]]:
    """The trunk from each first layer, if it has at least two layers of its own, and the sums on the trunks.

    If a trunk has several ends, the path to each of them is a trunk as well if it has three layers of its own. This
    excludes low-rank adapters, whose second layer is initialized with zeros. What enters a residual branch from the
    side, such as a position embedding, begins no trunk either, since the layers behind it belong to the branch.
    """
    fed = [False] * len(above)  # by a layer
    for index in reversed(range(len(above))):
        if index in points or fed[index]:
            for user in above[index]:
                fed[user] = True
    sources: dict[str, int] = {}
    for index in sorted(points, key=lambda i: (fed[i], -distance[i])):
        sources.setdefault(points[index], index)
    branches = _Branches(dominator, points)

    def onwards(source: int) -> list[int]:
        way = [source]
        while dominator[way[-1]] >= 0:
            way.append(dominator[way[-1]])
        return way

    # Of those that are equally far, that comes first whose stream most branches join: others may enter such a branch.
    far = max((distance[i] for i in sources.values() if not fed[i]), default=0)
    level = {name: i for name, i in sources.items() if not fed[i] and distance[i] == far}
    if len(level) > 1:
        joined_by = {name: len(_sums(onwards(i), above, points, branches)) for name, i in level.items()}
        sources = {name: level[name] for name in sorted(level, key=lambda name: -joined_by[name])} | sources
    trunks: list[Trunk] = []
    sums: list[tuple[str, int]] = []
    taken, joins = set[int](), set[int]()
    made: dict[int, None] = {}  # of what the trunks begin with
    for source in sources.values():
        own, join = [], source
        while join >= 0 and join not in taken:
            own.append(join)
            join = dominator[join]
        is_branch = fed[source] and join >= 0 and distance[join] > 0
        least = 3 if fed[source] or join in joins else 2
        layers = sum(index in points and (fed[source] or index not in made) for index in own)
        if is_branch or (trunks and layers < least):
            continue
        way = onwards(source)
        joined = _sums(way, above, points, branches)
        names = dict.fromkeys(joined.get(index) or points[index] for index in way if index in points or index in joined)
        last = next(index for index in reversed(way) if index in points)
        has_ends = distance[last] > 0 and all(above[index] for index in _reached(last, above, around=points))
        heads = [points[i] for i in _reached(source, above) if distance[i] == 0 and i in points] if has_ends else []
        name = common_path([points[index] for index in own if index in points]) if trunks else ""
        trunks.append(Trunk(name, tuple(names), tuple(dict.fromkeys(heads))))
        sums += [(name, index) for index, name in joined.items() if index not in taken]
        joins |= joined.keys() - taken
        taken.update(own)
        made |= dict.fromkeys(_reached(source, above, around=made))
    return trunks, sums


def _reached(source: int, above: Sequence[Sequence[int]], around: Container[int] = ()) -> list[int]:
    """The node and all that use its result, directly or not, on paths without the nodes of ``around``."""
    found = {source: None}
    for index in (queue := [source]):
        users = [user for user in dict.fromkeys(above[index]) if user not in found and user not in around]
        queue += users
        found |= dict.fromkeys(users)
    return list(found)


@final
class _Branches:
    """Finds the layers below each node in the dominator tree: those whose every path to the loss passes that node.

    Args:
        dominator: The immediate dominator of each node.
        points: The nodes of layers.
    """

    def __init__(self, dominator: Sequence[int], points: Iterable[int]) -> None:
        size = [1] * len(dominator)
        for index in reversed(range(len(dominator))):
            if dominator[index] >= 0:
                size[dominator[index]] += size[index]
        #: Numbers the tree from the loss on, so that what is below a node follows it without a gap.
        self._place = [0] * len(dominator)
        free, roots = [place + 1 for place in range(len(dominator))], 0
        for index, above_it in enumerate(dominator):
            if above_it < 0:
                place, roots = roots, roots + size[index]
            else:
                place, free[above_it] = free[above_it], free[above_it] + size[index]
            self._place[index], free[index] = place, place + 1
        self._size = size
        self._points = sorted(points, key=self._place.__getitem__)
        self._places = [self._place[index] for index in self._points]

    def beside(self, before: int, node: int) -> list[int]:
        """The layers below ``node`` that are not below ``before``, which is itself below ``node``."""
        first, last = self._span(node)
        skipped, after = self._span(before)
        return [index for index in self._points[first:skipped] + self._points[after:last] if index != node]

    def _span(self, node: int) -> tuple[int, int]:
        place = self._place[node]
        return bisect_left(self._places, place), bisect_left(self._places, place + self._size[node])


def _sums(
    way: Sequence[int], above: Sequence[Sequence[int]], points: Mapping[int, str], branches: _Branches
) -> dict[int, str]:
    """The nodes of a trunk in which branches with layers join it, named by the common prefix of those layers' names."""
    joined = {}
    for before, node in itertools.pairwise(way):
        # Only where the way itself has forked: what another input brings is no branch of it.
        if node not in points and len(set(above[before])) > 1 and (joining := branches.beside(before, node)):
            names = [points[index] for index in sorted(joining, reverse=True)]
            joined[node] = (common_path(names) or names[-1]) + "+"
    return joined


def common_path(names: Sequence[str]) -> str:
    """The common prefix of dotted paths of modules; for a single name, the name."""
    paths = [name.split(".") for name in dict.fromkeys(names)]
    shared = 0
    while all(len(path) > shared and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return ".".join(paths[0][:shared])


def _times(order: Sequence[Node], position: Mapping[Node, int], points: Mapping[int, str]) -> dict[Node, int]:
    """The position of each call, from 1, in the longest sequence of calls of its layer that feed one another."""
    repeated = {name for name, count in Counter(points.values()).items() if count > 2}
    if not repeated:
        return {}
    latest: dict[int, dict[str, int]] = {}
    for index in reversed(range(len(order))):
        found: dict[str, int] = {}
        for before in _before(order[index]):
            for name, count in latest[position[before]].items():
                found[name] = max(found.get(name, 0), count)
        if points.get(index) in repeated:
            found[points[index]] = found.get(points[index], 0) + 1
        latest[index] = found
    times = {index: latest[index][name] for index, name in points.items() if name in repeated}
    recurrent = {points[index] for index, time in times.items() if time > 2}
    return {order[index]: time for index, time in times.items() if points[index] in recurrent}


def _meets(start: Node, known: Mapping[Node, int]) -> bool:
    """Whether a node that does reach the loss was also used to compute this node; leaves do not count."""
    seen, queue = {start}, [start]
    for node in queue:
        for before in _before(node):
            if before in known and not _is_leaf(before):
                return True
            if before not in seen and len(seen) < LARGEST:
                seen.add(before)
                queue.append(before)
    return False
