"""What a step's forward and backward passes have shown, until it is brought together."""

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
    """What the passes between two changes from backward to forward have shown."""

    def __init__(self) -> None:
        #: By field, scalars with their layers' names, in a tensor or on the host.
        self.found: Found = defaultdict(list)
        self.by_unit: dict[Field, dict[str, Tensor]] = defaultdict(dict)
        self.recurrent: list[tuple[str, RecurrentPass]] = []
        #: |delta| by layer and call, where calls of one layer feed one another; at chosen calls.
        self.sequences: dict[str, dict[int, list[measure.Number]]] = defaultdict(lambda: defaultdict(list))
        self.has_delta = False
        #: The layers of which a small batch has been seen, and how often.
        self.small_batches: dict[str, int] = defaultdict(int)
        #: Whether the weights still had a gradient of earlier passes; None where nobody has looked.
        self.goes_on: Tensor | None = None

    def add(self, field: Field, name: str, value: Any) -> None:
        """Take in a number of a layer, or one for each of its units."""
        if field.reduction is not Reduction.MAX:
            self.found[field].append((name, value))
            return
        known = self.by_unit[field].get(name)
        if known is not None and known.shape == value.shape:
            value = torch.maximum(known, value)
        self.by_unit[field][name] = value

    def add_states(self, twice: Container[str]) -> dict[str, list[int]]:
        """Take in dL/dh_t: of torch's recurrent layers by repeating their passes, of repeated calls by their deltas.

        Args:
            twice: The layers that were differentiated more than once, of which nothing is known.
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
    """Scalars, those of a layer that ran several times still side by side; and numbers a unit, by layer.

    Args:
        all_passes: Those of a step.
        twice: The layers that were differentiated more than once, of which no delta is known.
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
    """The passes of a step with what a micro-batch has brought to a weight, before it is added to any other.

    Args:
        all_passes: Those so far.
        name: The weight's layer.
        weight: The parameter.
        gradient: Of this micro-batch.
        is_first: Whether it is the layer's first weight, which tells of the others as well.
    """
    if is_first and weight.grad is not None and not any(passes.small_batches for passes in all_passes):
        all_passes[-1].add(LEFT, name, measure.norm(weight.grad))
    if is_first and any(passes.small_batches.get(name) for passes in all_passes[:-1]):
        # What earlier passes have left may be thrown away, as SAM's first one is: they are no part of this step.
        if weight.grad is None:
            all_passes = all_passes[-1:]
        else:
            goes_on, left = all_passes[-1].goes_on, torch.as_tensor(measure.norm(weight.grad) != 0)
            all_passes[-1].goes_on = left if goes_on is None else goes_on | left
    latest = all_passes[-1]
    latest.small_batches[name] += is_first  # once a layer, however many weights it has
    latest.add(SMALL_BATCH, name, measure.norm(gradient))
    latest.add(SMALL_BATCHES, name, int(is_first))
    return all_passes


def small_batches(all_passes: Iterable[Passes]) -> Counter[str]:
    """How many gradients of each layer this rank has seen, of a micro-batch each."""
    found: Counter[str] = Counter()
    for passes in all_passes:
        found.update(passes.small_batches)
    return found


def _which_count(all_passes: Sequence[Passes]) -> Tensor | None:
    """Of each of several passes, whether its gradient is still in ``p.grad`` at the step; None where all are.

    What an earlier pass has left may have been set to zero, as that of the first pass of SAM is.
    """
    if not any(passes.goes_on is not None for passes in all_passes):
        return None
    known = next(p.goes_on for p in all_passes if p.goes_on is not None)
    flags = [torch.ones_like(known) if p.goes_on is None else p.goes_on for p in [*all_passes[1:], Passes()]]
    return torch.stack(flags).flip(0).int().cumprod(0).flip(0).bool()


@final
class Call:
    """One call of a layer; what is known of its activation counts once its delta has come.

    So what gradient checkpointing computes a second time does not.
    """

    def __init__(self, name: str, passes: Passes, step: int, fed_by: int | None) -> None:
        self.name = name
        self.passes = passes
        #: Of the recorder's steps, the one that ``passes`` are of.
        self.step = step
        #: The storage of its input, where that is data and has no history.
        self.fed_by = fed_by
        self.kind = "identity"
        self.activation: dict[Field, Any] = {}
        self.time: int | None = None
        self.is_taken = False


@final
class Calls:
    """The calls of a step, by the nodes of autograd's graph that have made their outputs.

    Nothing that is known of a forward pass that is over keeps its graph: an evaluation without ``torch.no_grad`` would
    fill the memory. The hooks in the graph keep the calls, which are found by the numbers of their nodes then.
    """

    def __init__(self) -> None:
        self.open: dict[Node, Call] = {}
        self._over: WeakValueDictionary[int, Call] = WeakValueDictionary()

    def close(self) -> None:
        """Let go of the nodes."""
        for node, call in self.open.items():
            self._over[node._sequence_nr()] = call
        self.open.clear()

    def layer_of(self, node: Node) -> str | None:
        """The layer that has made the output of a node."""
        call = self.open.get(node) or (self._over.get(node._sequence_nr()) if self._over else None)
        return call.name if call else None

    def look(self, roots: Iterable[Node], *, back: bool = False) -> Look | None:
        """Read a graph; without the calls that were differentiated already, except where that is looked back at."""
        over = {} if back else {number: call.name for number, call in self._over.items() if not call.is_taken}
        return look(roots, {n: c.name for n, c in self.open.items() if back or not c.is_taken}, over)

    def mark(self, times: Mapping[Node, int]) -> None:
        """Note of calls that feed one another which of them they are, where that one is read."""
        found = [(self.open.get(node) or self._over[node._sequence_nr()], time) for node, time in times.items()]
        lengths: dict[str, int] = defaultdict(int)
        for call, time in found:
            lengths[call.name] = max(lengths[call.name], time)
        for call, time in found:
            call.time = time if time in chosen_times(lengths[call.name]) else None

    def keep(self, step: int) -> set[str]:
        """Forget all but what ran at this step and has not been differentiated; the names of that."""
        self.open = {n: c for n, c in self.open.items() if not c.is_taken and c.step == step}
        self._over = WeakValueDictionary({n: c for n, c in self._over.items() if not c.is_taken and c.step == step})
        return {call.name for call in (*self.open.values(), *self._over.values())}
