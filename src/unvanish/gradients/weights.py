"""The weights of a network, and what is measured of them and of their gradients."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unvanish.gradients import measure
from unvanish.gradients.ranks import Part, Ranks

#: A layer whose gradient's norm lies between these is measured in float32.
_COMFORTABLE = (1e-10, 1e10)


class Selection(NamedTuple):
    """Weights with their layers' names, and how many numbers each layer has in them."""

    names: list[str]
    weights: list[nn.Parameter]
    sizes: dict[str, int]


def _select(pairs: Iterable[tuple[str, nn.Parameter]]) -> Selection:
    selection = Selection([], [], defaultdict(int))
    for name, weight in pairs:
        selection.names.append(name)
        selection.weights.append(weight)
        selection.sizes[name] += weight.numel()
    return selection


class Directions(NamedTuple):
    """The gradients of a step, as copies or as unit vectors with the lengths of what this rank holds of them.

    Args:
        names: Their layers.
        directions: Copies or unit vectors.
        lengths: Norms, None for copies.
        scale: What all of them have been multiplied by.
        norms: Those of the whole layers.
    """

    names: list[str]
    directions: list[Tensor]
    lengths: list[Tensor | None]
    scale: Tensor | float
    norms: dict[str, Part]


def _part(
    key: str, names: list[str], tensors: Sequence[Tensor], dtype: torch.dtype | None, scale: Tensor | float
) -> dict[str, Part]:
    values = measure.norms(tensors, dtype)
    return {key: Part(names, values / scale if isinstance(scale, Tensor) or scale != 1 else values)}


@final
class Weights:
    """Measures weights and gradients, whole ones or the shards that this rank holds of them.

    Args:
        pairs: The weights, each with its layer's name.
        ranks: Those that hold the other shards, where there are any.
    """

    def __init__(self, pairs: list[tuple[str, nn.Parameter]], ranks: Ranks | None) -> None:
        self.pairs = pairs
        self._ranks = ranks
        self._comfortable: set[str] = set()
        #: The lists of names, by their id, of which all are comfortable.
        self._narrow: set[int] = set()
        self._selections: dict[frozenset[int] | None, Selection] = {}

    def learn(self, steps: Iterable[tuple[Iterable[str], Mapping[str, float]]]) -> None:
        """See from each step's layers and gradient norms for which layers float32 will do, until the next time."""
        low, high = _COMFORTABLE
        for layers, norms in steps:
            for name in layers:
                (self._comfortable.add if low < norms.get(name, 0) < high else self._comfortable.discard)(name)
        self._narrow = {
            id(selection.names)
            for selection in self._selections.values()
            if all(map(self._is_comfortable, selection.names, selection.weights))
        }

    def with_gradient(self, chosen: frozenset[int] | None) -> tuple[Selection, list[Tensor]]:
        """The weights of an optimizer that have a gradient, nearly always all of them, and those gradients."""
        if chosen not in self._selections:
            self._selections[chosen] = _select([(n, w) for n, w in self.pairs if chosen is None or id(w) in chosen])
        known = self._selections[chosen]
        gradients = [weight.grad for weight in known.weights]
        found = [gradient for gradient in gradients if gradient is not None]
        if len(found) < len(gradients):
            known = _select([(n, w) for n, w in zip(known.names, known.weights, strict=True) if w.grad is not None])
        return known, found

    def norms(
        self,
        quantity: str,
        names: list[str],
        tensors: Sequence[Tensor],
        scale: Tensor | float = 1.0,
        like: Sequence[Tensor] | None = None,
    ) -> dict[str, Part]:
        """The norms of whole tensors, of which this rank may hold shards: those of ``like``, if not their own.

        In float32 for the layers of which the last flush has told that this will do, else in float64.
        """
        if self._ranks:
            part = Part(names, measure.norms([measure.local(tensor) for tensor in tensors]) / scale)
            return {quantity: self._ranks.add_shards(part, like or tensors, are_norms=True)}
        if id(names) in self._narrow:
            return _part(f"{quantity}_float32", names, tensors, torch.float32, scale)
        narrow = [self._is_comfortable(name, tensor) for name, tensor in zip(names, tensors, strict=True)]
        parts: dict[str, Part] = {}
        for key, dtype, flag in ((quantity, None, False), (f"{quantity}_float32", torch.float32, True)):
            chosen = [index for index, is_narrow in enumerate(narrow) if is_narrow == flag]
            if chosen:
                parts |= _part(key, [names[i] for i in chosen], [tensors[i] for i in chosen], dtype, scale)
        return parts

    def _is_comfortable(self, name: str, tensor: Tensor) -> bool:
        return name in self._comfortable and tensor.dtype != torch.float64

    def directions(
        self, names: list[str], gradients: list[Tensor], norms: dict[str, Part], scale: Tensor | float
    ) -> Directions:
        """Copies of the gradients, those as unit vectors whose products with another might underflow."""
        directions, lengths = [], []
        for name, gradient in zip(names, gradients, strict=True):
            shard = measure.local(gradient)
            is_copied = not self._ranks and self._is_comfortable(name, shard)
            length = None if is_copied else measure.norm(shard)
            directions.append(shard.clone() if length is None else measure.direction(shard, length))
            lengths.append(length)
        return Directions(names, directions, lengths, scale, norms)

    def cosines(self, previous: Directions, gradients: list[Tensor], scale: Tensor | float) -> dict[str, Part]:
        """The inner products with the gradients of the step before, and the norms of those."""
        products = measure.products(previous.directions, [measure.local(gradient) for gradient in gradients])
        if not all(length is None for length in previous.lengths):
            one = torch.ones_like(products[0])
            products = products * torch.stack([one if length is None else length for length in previous.lengths])
        part = Part(previous.names, products / previous.scale / scale)
        if self._ranks:
            part = self._ranks.add_shards(part, gradients, are_norms=False)
        previous_norms = {quantity.replace("gradient", "previous"): norms for quantity, norms in previous.norms.items()}
        return {"product": part} | previous_norms

    def histograms(self, names: list[str], gradients: list[Tensor]) -> Part:
        """The counts of each gradient by octave, (n, 512)."""
        counts = torch.stack([measure.octave_counts(measure.local(gradient)) for gradient in gradients])
        if self._ranks:
            counts = counts / self._ranks.copies(gradients).to(counts.dtype).unsqueeze(1)
            dist.all_reduce(counts, group=self._ranks.group)
        return Part(names, counts)
