"""What a step's forward and backward passes have shown, until it is brought together."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor

from unvanish.gradients.quantities import Field, Reduction
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES
from unvanish.gradients.recurrent import RecurrentPass

Found = dict[Field, list[tuple[str, Any]]]


@final
class Passes:
    """What the passes between two changes from backward to forward have shown."""

    def __init__(self) -> None:
        #: By field, scalars with their layers' names, in a tensor or on the host.
        self.found: Found = defaultdict(list)
        self.by_unit: dict[Field, dict[str, Tensor]] = defaultdict(dict)
        self.recurrent: list[tuple[str, RecurrentPass]] = []
        #: |delta| by layer and call, where calls of one layer feed one another; at chosen calls.
        self.sequences: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self.has_delta = False
        #: The layers of which a small batch has been seen, and how often.
        self.small_batches: dict[str, int] = defaultdict(int)

    def add(self, field: Field, name: str, value: Any) -> None:
        """Take in a number of a layer, or one for each of its units."""
        if field.reduction is not Reduction.MAX:
            self.found[field].append((name, value))
            return
        known = self.by_unit[field].get(name)
        if known is not None and known.shape == value.shape:
            value = torch.maximum(known, value)
        self.by_unit[field][name] = value

    def add_states(self) -> dict[str, list[int]]:
        """Take in dL/dh_t: of torch's recurrent layers by repeating their passes, of repeated calls by their deltas."""
        found = [(name, p.times, p.state_gradients()) for name, p in self.recurrent if p.has_gradient]
        for name, by_time in self.sequences.items():
            times = sorted(by_time)
            found.append((name, times, torch.stack([torch.stack(by_time[t]).norm() for t in times])))
        for name, times, states in found:
            for field, number in ((PASSES, 1), (LENGTH, times[-1]), (LENGTH_SQUARE, times[-1] ** 2)):
                self.add(field, name, number)
            for field, norm in zip(STATES, states, strict=False):
                self.add(field, name, norm)
        return {name: times for name, times, _ in found}


def together(all_passes: Iterable[Passes]) -> Passes:
    """The scalars and the numbers a unit of several, as of one."""
    whole = Passes()
    for passes in all_passes:
        for field, values in passes.found.items():
            whole.found[field] += values
        for field, units in passes.by_unit.items():
            for name, numbers in units.items():
                whole.add(field, name, numbers)
    return whole


@final
class Call:
    """One call of a layer; what is known of its activation counts once its delta has come.

    So what gradient checkpointing computes a second time does not.
    """

    def __init__(self, name: str, passes: Passes) -> None:
        self.name = name
        self.passes = passes
        self.kind = "identity"
        self.activation: dict[Field, Any] = {}
        self.time: int | None = None
        self.is_taken = False
