"""What the judge is given: the records of a stretch of a run, those of its first steps, and its losses."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from statistics import fmean, median
from typing import Any

from unvanish.gradients.ends import Given
from unvanish.gradients.graph import Trunk
from unvanish.gradients.heads import Head
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gain import GAIN
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.quantity import Quantity
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.quantities.weight import WEIGHT_NORM
from unvanish.gradients.record import Record
from unvanish.gradients.sample import Sample, pooled

#: A run whose loss has come this far below that of the best constant prediction, as a share of it, learns.
LEARNS = 0.3
#: One that has not come so far does not.
STUCK = 0.05
#: Nearly all of the loss is gone.
ENOUGH = 0.9
#: What a step usually changes of the weights, as a share of their norm.
USUAL = 1e-3
#: Rows of targets from which the constant prediction's loss is known to some 10 %.
ROWS = 32


@dataclass(frozen=True)
class Seen:
    """What was seen of a run, or of a part of its network that an optimizer steps.

    Args:
        records: Of the steps that are judged, at which everything was measured, oldest first.
        first: The same of the first steps.
        losses: Of the last steps, as many as are known.
        opening: Of the first.
        steps: How many there were.
        part: What the optimizer steps; empty where that is all.
        targets: The targets of each head over all steps, by what tells heads apart.
        validation: The losses on data that were not learnt from, in order.
        is_before: Whether nothing was trained yet, and only what one batch shows is asked for.
        sample: Records from the first step to the last, evenly spaced.
    """

    records: Sequence[Record]
    first: Sequence[Record] = ()
    losses: Sequence[float] = ()
    opening: Sequence[float] = ()
    steps: int = 1
    part: str = ""
    targets: Mapping[Any, Sample] = field(default_factory=dict)
    validation: Sequence[float] = ()
    is_before: bool = False
    sample: Sequence[Record] = ()

    @property
    def latest(self) -> Record | None:
        """The last record at which everything was measured, if there is one."""
        return next((record for record in reversed(self.sound) if record.is_full), None) or next(
            reversed(self.records), None
        )

    @property
    def is_early(self) -> bool:
        """Whether no more than the first steps were seen."""
        return not self.records or not self.first or self.records[-1].step <= self.first[-1].step

    @cached_property
    def sound(self) -> Sequence[Record]:
        """The records whose numbers are finite; all, where none are."""
        return [record for record in self.records if record.is_finite] or self.records

    @cached_property
    def medians(self) -> Callable[[Quantity], dict[str, float]]:
        """Of a quantity by layer; each is reckoned once, however many trunks and rules ask for it."""
        return cache(partial(medians, self.sound))

    @cached_property
    def at_first(self) -> Callable[[Quantity], dict[str, float]]:
        """The same of the first steps."""
        return cache(partial(medians, self.first or self.records))

    def initial(self, quantity: Quantity) -> Mapping[str, float]:
        """The same of the very first step that was seen."""
        return (self.first or self.records)[0].of(quantity) if self.records else {}

    @cached_property
    def lines(self) -> dict[str, dict[str, float]]:
        """The median gradient along each trunk; of all layers, where autograd's graph has told none."""
        trunks = self.latest.trunks if self.latest else ()
        seen = self.medians(DELTA_NORM) | self.medians(STREAM_NORM)
        found = {trunk.name: in_line(seen, trunk) for trunk in trunks}
        return {name: line for name, line in found.items() if len(line) > 1} or {"": self.medians(DELTA_NORM)}

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """The kind of activation after each layer."""
        return self.latest.activations if self.latest else {}

    @property
    def normalizations(self) -> str:
        """The classes of what normalizes, in a row."""
        return " ".join(self.latest.normalizations) if self.latest else ""

    @property
    def is_residual(self) -> bool:
        """Whether branches join a trunk."""
        return any(name.endswith("+") for line in self.lines.values() for name in line)

    def units(self, layer: str) -> int:
        """How many units a layer has; 0 where that is not known."""
        gain, norm = self.initial(GAIN).get(layer, 0.0), self.initial(WEIGHT_NORM).get(layer, 0.0)
        return round((norm / gain) ** 2) if gain else 0

    @property
    def given(self) -> list[Given]:
        """The data that the network was fed in its first steps, each layer's once."""
        return [*{given.layer: given for record in self.first or self.records for given in record.given}.values()]

    @property
    def inputs(self) -> dict[str, Sample]:
        """All data of the first steps by the layer that was fed them, where they had the same columns."""
        fed: dict[str, list[Sample]] = {}
        for record in self.first or self.records:
            for given in record.given:
                fed.setdefault(given.layer, []).append(given.data)
        return {layer: sample for layer, samples in fed.items() if (sample := pooled(samples))}

    @cached_property
    def options(self) -> Sequence[Mapping[str, Any]]:
        """Of the optimizers, by group."""
        return self.latest.options if self.latest else ()

    @cached_property
    def heads(self) -> list[Head]:
        """What the loss compares, each once, its target over all steps."""
        found: dict[Any, Head] = {}
        for record in self.records:
            for head in record.heads:
                found[key_of(head)] = head
        return list(found.values())

    def target(self, head: Head) -> Sample | None:
        """The target of a head over all steps that were seen."""
        return self.targets.get(key_of(head)) or pooled(
            other.target for record in self.records for other in record.heads if key_of(other) == key_of(head)
        )

    @cached_property
    def outputs(self) -> set[str]:
        """The layers whose activation is the network's answer."""
        ends = {head.layer for head in self.heads if head.layer}
        return ends | {[*line][-1] for line in self.lines.values() if line}

    @cached_property
    def head(self) -> Head | None:
        """What the loss compares, where it is one thing."""
        return self.heads[0] if len(self.heads) == 1 and not self.part else None

    @cached_property
    def constant(self) -> float:
        """The loss of the best constant prediction; NaN where that is not known."""
        return self.constant_of(self.head)

    def constant_of(self, head: Head | None) -> float:
        """The same of one of several things that the loss compares."""
        target = self.target(head) if head else None
        values = self.values(head) if head else []
        is_weighted = bool(values) and not any(map(math.isfinite, values))
        if head is None or target is None or target.count < ROWS or is_weighted:
            return math.nan
        # A unit that answers at every position, as of a recurrent network, gives one constant for all of them.
        is_shared = len(target.sums) > 1 and 1 in head.output[1:]
        if head.loss == "squared error":
            return target.rms**2 - target.mean**2 if is_shared else fmean(target.variances)
        if head.loss == "absolute error":
            return min(target.frequencies) if target.is_labels else math.nan
        if not target.is_labels or head.loss == "margin":
            return math.nan  # soft labels have an entropy of their own, below which no loss comes
        if head.loss == "binary cross-entropy":
            means = [target.mean] if is_shared else target.means
            return fmean(entropy([1 - mean, mean]) for mean in means)
        return entropy(target.means) if len(target.sums) > 1 else math.nan

    def values(self, head: Head) -> list[float]:
        """The loss of one comparison at the steps that are judged; with weights it is told to be no number."""
        key = key_of(head)
        return [h.value for record in self.sound if record.is_finite for h in record.heads if key_of(h) == key]

    @cached_property
    def is_summed(self) -> bool:
        """Whether the loss is a sum over the rows of a batch, or over all their numbers, in place of a mean."""
        # The first steps tell it too where the last ones are broken, as a sum's often are.
        whole = [record for record in (*self.first, *self.records) if record.is_finite]
        known = [(record.totals.get(LOSS.name, math.nan), head) for record in whole for head in record.heads]
        times = [(total / head.value, head.prediction) for total, head in known if self.head and head.value]
        rows = ([max(math.prod(shape[:end]), 2) for _, shape in times] for end in (-1, None))
        factors = [factor for factor, _ in times]
        return bool(times) and any(
            all(math.isclose(f, n, rel_tol=1e-3) for f, n in zip(factors, counts, strict=True)) for counts in rows
        )

    @cached_property
    def _compared(self) -> Sequence[tuple[float, float]]:
        """The loss of each record that tells it, and what it compares alone."""
        known = [(r.totals.get(LOSS.name, math.nan), [h.value for h in r.heads]) for r in self.records if self.head]
        # Of several of a kind, as mixup has them, a loss in between is their mean with weights of its own.
        return [(t, t if min(vs) <= t <= max(vs) else fmean(vs)) for t, vs in known if vs]

    @property
    def penalty(self) -> float:
        """What is part of the loss and no comparison, mean over the last steps; NaN where not known."""
        return fmean(total - value for total, value in self._compared) if self._compared else math.nan

    @cached_property
    def loss(self) -> float:
        """What the network has reached: the loss without penalties, mean over the last steps; NaN where not known."""
        if not self._compared:
            return math.nan
        reached = fmean(value for _, value in self._compared)
        # Every step's loss is known, but only some steps' without what was added to it.
        return fmean(self.late) - self.penalty if self.losses and abs(self.penalty) <= 0.1 * abs(reached) else reached

    @property
    def late(self) -> Sequence[float]:
        """The losses of the last steps that are known, of the second half of the run at most."""
        return self.losses if self.is_early else self.losses[-max(1, self.steps // 2) :]

    @cached_property
    def progress(self) -> float:
        """By what share the loss is below that of the best constant prediction; NaN where that is not known."""
        if not self.constant > 0:
            # How far it has fallen is the next best, where it can only fall to 0.
            begin = fmean(self.opening) if self.opening and self.head and not self.is_early else math.nan
            return 1 - fmean(self.late) / begin if self.losses and begin > 0 and min(self.losses) >= 0 else math.nan
        return 1 - self.loss / self.constant if math.isfinite(self.loss) else -math.inf

    @property
    def learns(self) -> bool:
        """Whether it is known that the network learns: what has not hindered it is no fault."""
        return self.progress > LEARNS

    @property
    def is_stuck(self) -> bool:
        """Whether it is known that the network does no better than a constant."""
        return not self.is_early and self.constant > 0 and self.progress < STUCK


def entropy(frequencies: Iterable[float]) -> float:
    """In nats."""
    return -sum(p * math.log(p) for p in frequencies if p > 0)


def key_of(head: Head) -> tuple[str, tuple[str, ...], str]:
    """What tells heads of one loss apart."""
    return head.loss, head.path, head.layer


def medians(records: Iterable[Record], quantity: Quantity) -> dict[str, float]:
    """The median of a quantity by layer, over the records that have it; NaN where any of them is NaN."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.of(quantity).items():
            values.setdefault(name, []).append(value)
    return {name: math.nan if any(map(math.isnan, seen)) else median(seen) for name, seen in values.items()}


def in_line(seen: Mapping[str, float], trunk: Trunk) -> dict[str, float]:
    """The gradient along a trunk, layers and sums, of all that is seen; that of several heads at its ends together."""
    found = {name: seen[name] for name in trunk.layers if name in seen}
    heads = [name for name in trunk.heads if name in seen]
    return found | ({", ".join(heads): math.hypot(*(seen[name] for name in heads))} if heads else {})
