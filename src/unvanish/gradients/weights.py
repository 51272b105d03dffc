"""The parameters of a network that have a gradient, whole or as shards."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, final

import torch
import torch.distributed as dist
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.quantities import Part, Reduction
from unvanish.gradients.quantities.quantity import Whole
from unvanish.gradients.ranks import Ranks


class Selection(NamedTuple):
    """Parameters, the weights first.

    Args:
        names: Their layers; empty for biases and gains.
        parameters: The parameters.
        sizes: Number of elements of each layer's weights.
        weights: How many of the parameters are weights.
    """

    names: list[str]
    parameters: list[Tensor]
    sizes: dict[str, int]
    weights: int


def _select(pairs: Iterable[tuple[str, Tensor]]) -> Selection:
    names: list[str] = []
    parameters: list[Tensor] = []
    sizes: dict[str, int] = defaultdict(int)
    for name, parameter in pairs:
        names.append(name)
        parameters.append(parameter)
        if name:
            sizes[name] += parameter.numel()
    return Selection(names, parameters, sizes, sum(map(bool, names)))


@final
class Parameters:
    """All parameters of a network, and how to read whole tensors of which ranks hold shards.

    Args:
        pairs: Each parameter with its layer's name, which is empty for biases and gains; weights first.
        ranks: The ranks that train it together, if there are several.
        is_sharded: Whether each rank holds a shard of the weights instead of a copy.
        own: The ids of the parameters that DDP does not synchronize.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, Tensor]],
        ranks: Ranks | None,
        *,
        is_sharded: bool,
        own: Collection[int] = (),
    ) -> None:
        self.pairs = pairs
        self._own = own
        self._ranks = ranks if is_sharded else None
        self._copies = None if is_sharded else ranks
        self._selections: dict[frozenset[int] | None, Selection] = {}
        #: Reads tensors whose shards are those of the tensors themselves.
        self.as_they_are = self.whole()

    def with_gradient(self, chosen: frozenset[int] | None) -> tuple[Selection, list[Tensor]]:
        """The parameters of an optimizer that have a gradient, and their gradients."""
        if chosen not in self._selections:
            self._selections[chosen] = _select((n, p) for n, p in self.pairs if chosen is None or id(p) in chosen)
        known = self._selections[chosen]
        found = [gradient for parameter in known.parameters if (gradient := parameter.grad) is not None]
        if len(found) < len(known.parameters):
            pairs = zip(known.names, known.parameters, strict=True)
            known = _select((n, p) for n, p in pairs if p.grad is not None)
        return known, found

    def whole(self, like: Sequence[Tensor] | None = None) -> Whole:
        """Functions that reduce norms and sums over shards.

        Args:
            like: Tensors that are sharded like those whose norms are read; those tensors themselves by default.
        """

        def norms(names: list[str], tensors: Sequence[Tensor]) -> Part:
            part = Part(names, measure.norms(tensors))
            return self._ranks.add_shards(part, like or tensors, Reduction.NORM) if self._ranks else part

        def sums(names: list[str], scalars: Sequence[Tensor | float], tensors: Sequence[Tensor]) -> Part:
            part = Part(names, measure.gathered(scalars))
            return self._ranks.add_shards(part, tensors, Reduction.SUM) if self._ranks else part

        def spread(names: list[str], tensors: Sequence[Tensor]) -> Part | None:
            both = zip(names, tensors, strict=True)
            copied = [(name, tensor) for name, tensor in both if id(tensor) not in self._own]
            if self._copies is None or not copied:
                return None
            return self._copies.spread(Part([n for n, _ in copied], measure.norms([t for _, t in copied])))

        return Whole(norms, sums, spread)

    def histograms(self, names: list[str], gradients: Sequence[Tensor]) -> Part:
        """The counts of each gradient by octave, (n, 512)."""
        counts = torch.stack([measure.octave_counts(measure.local(gradient)) for gradient in gradients])
        if self._ranks:
            counts = counts / self._ranks.copies(gradients).to(counts.dtype).unsqueeze(1)
            dist.all_reduce(counts, group=self._ranks.group)
        return Part(names, counts)
