"""Collects what was read in the graphs of one step."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from unvanish.gradients.graph import Look, Node, Trunk
from unvanish.gradients.layers import all_tensors
from unvanish.gradients.passes import Call


def storage(tensor: Any) -> int | None:
    """The identity of the storage of a tensor without history, which its views share; None for anything else."""
    is_plain = isinstance(tensor, Tensor) and tensor.grad_fn is None and tensor.layout is torch.strided
    return tensor.untyped_storage()._cdata if is_plain else None


@final
class Sight:
    """Joins the ``Look``s into the graphs of a step; its attributes are those of ``Look``."""

    def __init__(self) -> None:
        self.distance: dict[str, int] = {}
        self.trunks: dict[Trunk, None] = {}
        self.leaves: dict[int, tuple[Tensor, int]] = {}
        self.cut: dict[str, None] = {}
        #: The layers that ran under ``torch.no_grad``, their input and output, and whether they fed another layer.
        self.blind: dict[str, None] = {}
        self._source: Tensor | None = None
        self._made: Tensor | None = None
        self._blind_feed: bool | None = None
        self._data: set[int | None] = set()

    def give(self, inputs: Any) -> None:
        """Note the inputs of the model itself."""
        self._data |= set(map(storage, all_tensors(inputs)))

    def is_data(self, leaf: Tensor) -> bool:
        """Whether a leaf is an input of the model itself."""
        return storage(leaf) in self._data

    def learn(self, found: Look, calls: Mapping[Node, Call]) -> None:
        """Join a look with those before it."""
        for name, distance in found.distance.items():
            self.distance[name] = min(distance, self.distance.get(name, distance))
        self.trunks |= dict.fromkeys(found.trunks)
        self.leaves |= {id(leaf): (leaf, distance) for leaf, distance in found.leaves}
        cut = {node: calls[node] for node in found.cut}
        if self._feed(cut.values(), [call for node, call in calls.items() if call.name in found.distance], calls):
            self.cut |= dict.fromkeys(call.name for call in cut.values())
        self.cut |= self.blind if self._blind_feed else {}
        self.cut = {name: None for name in self.cut if name not in self.distance}

    def pass_blindly(self, name: str, given: Tensor | None, returned: Tensor | None) -> None:
        """Note a layer that runs under ``torch.no_grad``, its input and its output."""
        if not self.blind:
            self._source = given
        self.blind[name] = None
        self._made = returned

    def follow(self, given: Tensor | None) -> None:
        """Decide from the input of the first other layer whether layers under ``torch.no_grad`` feed it."""
        if self.blind and self._blind_feed is None and given is not None and self._source is not None:
            is_alike = given.shape == self._source.shape  # another view of the same data, as a teacher gets
            is_made = self._made is not None and given.grad_fn is None and storage(given) == storage(self._made)
            is_other = given.grad_fn is None and not is_alike and storage(given) not in self._data
            self._blind_feed = is_made or is_other
            self._source = self._made = None

    def _feed(self, cut: Collection[Call], others: Iterable[Call], calls: Mapping[Node, Call]) -> bool:
        """Whether calls that do not reach the loss may have fed calls that do.

        They may if one of the latter began later, on a tensor that is no data. A head or a target network beside the
        trunk feeds nothing.
        """
        if not cut:
            return False
        order = {call: index for index, call in enumerate(calls.values())}
        known = self._data | {call.fed_by for call in cut}
        first = min(order[call] for call in cut)
        return any(call.fed_by not in known for call in others if call.fed_by is not None and order[call] > first)
