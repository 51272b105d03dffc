"""What the graphs of one step have told, until the recorder takes it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from unvanish.gradients.graph import Look, Node, Trunk
from unvanish.gradients.layers import all_tensors
from unvanish.gradients.passes import Call


def storage(tensor: Any) -> int | None:
    """What holds the numbers of a tensor without a history: the same for its views. None for all else."""
    is_plain = isinstance(tensor, Tensor) and tensor.grad_fn is None and tensor.layout is torch.strided
    return tensor.untyped_storage()._cdata if is_plain else None


@final
class Sight:
    """The looks into the graphs of a step; arguments as of ``Look``."""

    def __init__(self) -> None:
        self.distance: dict[str, int] = {}
        self.trunks: dict[Trunk, None] = {}
        self.leaves: dict[int, tuple[Tensor, int]] = {}
        self.cut: dict[str, None] = {}
        #: The layers that ran under ``torch.no_grad``, what fed the first of them, and whether they have fed another.
        self.blind: dict[str, None] = {}
        self._source: Tensor | None = None
        self._made: Tensor | None = None
        self._blind_feed: bool | None = None
        self._data: set[int | None] = set()

    def give(self, inputs: Any) -> None:
        """Note what the model itself was called with."""
        self._data |= set(map(storage, all_tensors(inputs)))

    def is_data(self, leaf: Tensor) -> bool:
        """Whether the model itself was called with it."""
        return storage(leaf) in self._data

    def learn(self, found: Look, calls: Mapping[Node, Call]) -> None:
        """Take in what one look has found."""
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
        """Note a layer that runs under ``torch.no_grad``, what it is given, and what it returns."""
        if not self.blind:
            self._source = given
        self.blind[name] = None
        self._made = returned

    def follow(self, given: Tensor | None) -> None:
        """Note what the first other layer after these is given: what they have made, or what they were given too."""
        if self.blind and self._blind_feed is None and given is not None and self._source is not None:
            is_alike = given.shape == self._source.shape  # another view of the same data, as teachers are shown
            is_made = self._made is not None and given.grad_fn is None and storage(given) == storage(self._made)
            is_other = given.grad_fn is None and not is_alike and storage(given) not in self._data
            self._blind_feed = is_made or is_other
            self._source = self._made = None

    def _feed(self, cut: Collection[Call], others: Iterable[Call], calls: Mapping[Node, Call]) -> bool:
        """Whether what has no way to the loss may have fed what has: that began later, on something that is no data.

        A head or a target network beside the trunk feeds nothing.
        """
        if not cut:
            return False
        order = {call: index for index, call in enumerate(calls.values())}
        known = self._data | {call.fed_by for call in cut}
        first = min(order[call] for call in cut)
        return any(call.fed_by not in known for call in others if call.fed_by is not None and order[call] > first)
