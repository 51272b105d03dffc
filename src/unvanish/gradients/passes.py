"""Measurements of a step's forward and backward passes, before they are reduced."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, final
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.graph import Look, Node, look
from unvanish.gradients.quantities import Field, Part, Reduction
from unvanish.gradients.quantities.delta import DELTA, DELTA_COUNT
from unvanish.gradients.quantities.left import LEFT
from unvanish.gradients.quantities.noise import SMALL_BATCH, SMALL_BATCHES
from unvanish.gradients.quantities.stream import STREAM
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES
from unvanish.gradients.ranks import on_device
from unvanish.gradients.recurrent import RecurrentPass, chosen_times

Found = dict[Field, list[tuple[str, Any]]]


@final
class Passes:
    """Measurements of the forward and backward passes between two changes from backward to forward."""

    def __init__(self) -> None:
        #: By field, scalars with their layers' names, on the device or on the host.
        self.found: Found = defaultdict(list)
        self.by_unit: dict[Field, dict[str, Tensor]] = defaultdict(dict)
        self.recurrent: list[tuple[str, RecurrentPass]] = []
        #: |delta| by layer and call, at chosen calls, of layers whose calls feed one another.
        self.sequences: dict[str, dict[int, list[measure.Number]]] = defaultdict(lambda: defaultdict(list))
        self.has_delta = False
        #: Number of micro-batches whose gradient was read, by layer.
        self.small_batches: dict[str, int] = defaultdict(int)
        #: Whether the weights still had a gradient of earlier passes; None if unknown.
        self.goes_on: Tensor | None = None

    def add(self, field: Field, name: str, value: Any) -> None:
        """Add a value of a layer, or one for each of its units."""
        if field.reduction is not Reduction.MAX:
            self.found[field].append((name, value))
            return
        known = self.by_unit[field].get(name)
        if known is not None and known.shape == value.shape:
            value = torch.maximum(known, value)
        self.by_unit[field][name] = value

    def add_states(self, twice: Container[str]) -> dict[str, list[int]]:
        """Add dL/dh_t: torch's recurrent layers by repeating their passes, layers that are called repeatedly by delta.

        Args:
            twice: The layers that were differentiated more than once; they are left out.
        """
        found: list[tuple[str, list[int], Any]]
        found = [(name, p.times, p.state_gradients()) for name, p in self.recurrent if p.has_gradient]
        for name, by_time in self.sequences.items():
            times = sorted(by_time)
            found.append((name, times, [sum(norm * norm for norm in by_time[t]) ** 0.5 for t in times]))
        found = [(name, times, states) for name, times, states in found if name not in twice]
        for name, times, states in found:
            for field, number in ((PASSES, 1), (LENGTH, times[-1]), (LENGTH_SQUARE, times[-1] ** 2)):
                self.add(field, name, number)
            for field, norm in zip(STATES, states, strict=False):
                self.add(field, name, norm)
        return {name: times for name, times, _ in found}


def together(
    all_passes: Sequence[Passes], twice: Container[str]
) -> tuple[dict[Field, Part], dict[Field, dict[str, Tensor]]]:
    """Return scalars, one for each call of a layer, and values by unit, by layer.

    Args:
        all_passes: The passes of a step.
        twice: The layers that were differentiated more than once; their deltas are left out.
    """
    counts = _which_count(all_passes)
    found: dict[Field, list[tuple[str, Any, int]]] = defaultdict(list)
    units = Passes()
    for turn, passes in enumerate(all_passes):
        for field, values in passes.found.items():
            hidden = twice if field in (DELTA, DELTA_COUNT, STREAM) else ()
            if not (twice and field in (SMALL_BATCH, SMALL_BATCHES)):
                found[field] += [(name, value, turn) for name, value in values if name not in hidden]
        for field, by_unit in passes.by_unit.items():
            for name, numbers in by_unit.items():
                units.add(field, name, numbers if counts is None else numbers.where(counts[turn], -torch.inf))
    parts = {}
    for field, numbered in found.items():
        if numbered:
            whole = measure.gathered([value for _, value, _ in numbered])
            if counts is not None:
                if not isinstance(whole, Tensor):
                    whole = on_device(whole, counts.device, measure.accumulator(counts.device))
                whole = whole.where(counts[[turn for *_, turn in numbered]], 0)
            parts[field] = Part([name for name, *_ in numbered], whole)
    return parts, units.by_unit


def with_small_batch(
    all_passes: list[Passes], name: str, weight: Tensor, gradient: Tensor, *, is_first: bool
) -> list[Passes]:
    """Add the gradient of a weight from one micro-batch, before it is accumulated, and return the step's passes.

    Args:
        all_passes: The step's passes so far.
        name: The weight's layer.
        weight: The parameter.
        gradient: The gradient of this micro-batch.
        is_first: Whether it is the first weight of its layer, which stands for the others.
    """
    if is_first and weight.grad is not None and not any(passes.small_batches for passes in all_passes):
        all_passes[-1].add(LEFT, name, measure.norm(weight.grad))
    if is_first and any(passes.small_batches.get(name) for passes in all_passes[:-1]):
        # The gradient of earlier passes was discarded, as SAM discards its first: they are not part of this step.
        if weight.grad is None:
            all_passes = all_passes[-1:]
        else:
            goes_on, left = all_passes[-1].goes_on, torch.as_tensor(measure.norm(weight.grad) != 0)
            all_passes[-1].goes_on = left if goes_on is None else goes_on | left
    latest = all_passes[-1]
    latest.small_batches[name] += is_first  # once a layer
    latest.add(SMALL_BATCH, name, measure.norm(gradient))
    latest.add(SMALL_BATCHES, name, int(is_first))
    return all_passes


def small_batches(all_passes: Iterable[Passes]) -> Counter[str]:
    """The number of micro-batches whose gradient this rank has read, by layer."""
    found: Counter[str] = Counter()
    for passes in all_passes:
        found.update(passes.small_batches)
    return found


def _which_count(all_passes: Sequence[Passes]) -> Tensor | None:
    """Whether the gradient of each of several passes is still in ``p.grad`` at the step; None if all are.

    It is not if gradients were set to zero in between, as after the first pass of SAM.
    """
    if not any(passes.goes_on is not None for passes in all_passes):
        return None
    known = next(p.goes_on for p in all_passes if p.goes_on is not None)
    flags = [torch.ones_like(known) if p.goes_on is None else p.goes_on for p in [*all_passes[1:], Passes()]]
    return torch.stack(flags).flip(0).int().cumprod(0).flip(0).bool()


@final
class Call:
    """One call of a layer.

    Its activation counts only once its delta has been seen, so checkpointing's recomputation does not count twice.
    """

    def __init__(self, name: str, passes: Passes, step: int, fed_by: int | None, below: int | None = None) -> None:
        self.name = name
        self.passes = passes
        #: The recorder's step that ``passes`` belong to.
        self.step = step
        #: The storage of its input, if that is data: a tensor without history.
        self.fed_by = fed_by
        #: The number of the node under its output's, if its output is a view of that node's result.
        self.below = below
        self.kind = "identity"
        self.activation: dict[Field, Any] = {}
        self.time: int | None = None
        self.is_taken = False


@final
class Calls:
    """The calls of a step, by the nodes of autograd's graph that produced their outputs.

    Calls of a finished forward pass must not keep its graph alive, or an evaluation without ``torch.no_grad`` would
    fill the memory. Only the hooks in the graph hold these calls; they are looked up by the numbers of their nodes.
    """

    def __init__(self) -> None:
        self.open: dict[Node, Call] = {}
        self._over: WeakValueDictionary[int, Call] = WeakValueDictionary()
        #: By the number of the node below: a view that is changed in place leaves the graph, and that node stays.
        self._below: WeakValueDictionary[int, Call] = WeakValueDictionary()

    def add(self, node: Node, call: Call) -> None:
        """Note a call."""
        self.open[node] = call
        if call.below is not None:
            self._below[call.below] = call

    def close(self) -> None:
        """Release the nodes."""
        for node, call in self.open.items():
            self._over[node._sequence_nr()] = call
        self.open.clear()

    def layer_of(self, node: Node) -> str | None:
        """The layer whose output a node produced."""
        call = self._call_of(node)
        return call.name if call else None

    def _call_of(self, node: Node) -> Call | None:
        if call := self.open.get(node):
            return call
        if not (self._over or self._below):
            return None
        number = node._sequence_nr()
        return self._over.get(number) or self._below.get(number)

    def look(self, roots: Iterable[Node], *, back: bool = False) -> Look | None:
        """Read a graph.

        Args:
            roots: Where to begin.
            back: Whether it has been differentiated already. If not, calls that have been are left out.
        """
        over = {} if back else {number: call for number, call in self._over.items() if not call.is_taken}
        opened = {node: call for node, call in self.open.items() if back or not call.is_taken}
        below = {number: call.below for number, call in over.items() if call.below is not None}
        below |= {node._sequence_nr(): call.below for node, call in opened.items() if call.below is not None}
        names = {node: call.name for node, call in opened.items()}
        return look(roots, names, {number: call.name for number, call in over.items()}, below)

    def repeated(self, times: Mapping[Node, int]) -> tuple[str, ...]:
        """The layers with several calls that were not differentiated yet, except for those of a recurrence."""
        calls = dict.fromkeys((*self._over.values(), *self.open.values()))
        counts = Counter(call.name for call in calls if not call.is_taken)
        in_line = {call.name for node in times if (call := self._call_of(node))}
        return tuple(name for name, count in counts.items() if count > 1 and name not in in_line)

    def mark(self, times: Mapping[Node, int]) -> None:
        """Number calls of a layer that feed one another; only those at chosen times keep their number."""
        found = [(call, time) for node, time in times.items() if (call := self._call_of(node))]
        lengths: dict[str, int] = defaultdict(int)
        for call, time in found:
            lengths[call.name] = max(lengths[call.name], time)
        for call, time in found:
            call.time = time if time in chosen_times(lengths[call.name]) else None

    def keep(self, step: int) -> set[str]:
        """Keep only calls of this step that have not been differentiated, and return their layers' names."""
        self.open = {n: c for n, c in self.open.items() if not c.is_taken and c.step == step}
        self._over, self._below = (
            WeakValueDictionary({n: c for n, c in calls.items() if not c.is_taken and c.step == step})
            for calls in (self._over, self._below)
        )
        return {call.name for call in (*self.open.values(), *self._over.values())}
