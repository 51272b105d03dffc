"""Records: the values of a step, on the host, and steps whose values are still on the device."""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, islice
from typing import Any

from torch import Tensor

from unvanish.gradients.attention import Astray
from unvanish.gradients.ends import Ends, Given
from unvanish.gradients.graph import Trunk
from unvanish.gradients.heads import Head
from unvanish.gradients.measure import OCTAVES
from unvanish.gradients.missing import Untrained
from unvanish.gradients.quantities import (
    QUANTITIES,
    READERS,
    TOTALS,
    Batch,
    Field,
    Initial,
    Part,
    Quantity,
    Reduction,
    Scale,
    Successive,
)
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gain import UNITS
from unvanish.gradients.quantities.gradient import GRADIENT_NORM, SIZE
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES

Values = dict[str, dict[str, float]]


@cache
def _told_by(fields: frozenset[Field]) -> list[Quantity]:
    """The quantities that can be computed from these fields."""
    return [quantity for quantity in QUANTITIES if fields.issuperset({*quantity.fields} - {SIZE, UNITS})]


def _joined(field_: Field, names: Sequence[str], numbers: Sequence[float]) -> dict[str, float]:
    """One number a layer; the numbers of a layer that occurs more than once are reduced."""
    joined = dict(zip(names, numbers, strict=True))
    if len(joined) == len(names):
        return joined
    add = math.hypot if field_.reduction is Reduction.NORM else operator.add
    joined.clear()
    for name, number in zip(names, numbers, strict=True):
        joined[name] = add(joined[name], number) if name in joined else number
    return joined


@dataclass(frozen=True, repr=False)
class Record:
    """What was measured at one optimizer step.

    Args:
        step: Number of the step.
        time: When it was taken, in seconds since the epoch.
        values: Quantity (see ``quantities``) -> layer -> value, layers from the input to the loss. Zero, infinity and
            NaN are values; a layer that was not measured is left out.
        totals: The loss, if it was given; gradient_norm and gradient_norm_clipped over all parameters, including
            biases and gains. With several micro-batches or ranks, whose gradients are assumed to be averaged:
            noise_variance tr(Sigma), noise_signal |G|^2, and noise_batch, the samples of the step. The ratio of the
            first two is the gradient noise scale in samples.
        through_time: |dL/dh_t| of a recurrent layer by t, which begins with 1. For a layer that is called repeatedly
            on its own output, |dL/dz| by call.
        histograms: Counts of dL/dW by octave (see ``measure.octave_counts``), at steps that take them.
        trunks: The chains of layers that autograd's graph shows; empty if no graph was read.
        unreached: Layers that ran but have no path to the loss, nor has any layer before them.
        part: The common prefix of the layers of this optimizer; empty if it updates all of them.
        untrained: What seems to be trained and is not.
        heads: What the loss compares, at full steps.
        given: The network's input data, in the first steps.
        options: Learning rate, momentum and other options of the optimizers of this step, by parameter group.
        activations: The kind of activation after each layer.
        gated: The recurrent layers with gates.
        normalizations: The classes of the normalization layers, such as LayerNorm.
        dropout: The largest dropout probability of any module.
        astray: Softmaxes over another axis than the one that their numbers are then summed over.
        repeated: The layers that were called several times, but not as those of a recurrence, one after the other.
        mixed: The number of samples whose answers change with another sample; only ``diagnose`` looks.
    """

    step: int
    time: float
    values: Values
    totals: dict[str, float] = field(default_factory=dict)
    through_time: dict[str, dict[int, float]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    trunks: tuple[Trunk, ...] = ()
    unreached: tuple[str, ...] = ()
    part: str = ""
    untrained: tuple[Untrained, ...] = ()
    heads: tuple[Head, ...] = ()
    given: tuple[Given, ...] = ()
    options: tuple[Mapping[str, Any], ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)
    gated: tuple[str, ...] = ()
    normalizations: tuple[str, ...] = ()
    dropout: float = 0.0
    astray: tuple[Astray, ...] = ()
    repeated: tuple[str, ...] = ()
    mixed: int = 0

    def __repr__(self) -> str:
        names = dict.fromkeys(layer for layers in self.values.values() for layer in layers)
        return f"Record(step={self.step}, {len(self.values)} quantities of {len(names)} layers)"

    def of(self, quantity: Quantity) -> dict[str, float]:
        """The values of a quantity by layer; empty if it was not measured."""
        return self.values.get(quantity.name, {})

    @property
    def is_full(self) -> bool:
        """Whether everything was measured, not only the weights' gradients."""
        return DELTA_NORM.name in self.values

    @cached_property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        found = self.totals, self.of(GRADIENT_NORM), self.of(DELTA_NORM)
        return all(math.isfinite(value) for values in found for value in values.values())


@dataclass
class Step:
    """A step whose values are still on the device. Fields that ``Record`` has as well mean the same there.

    Args:
        number: Number of the optimizer step.
        time: When it was taken, in seconds since the epoch.
        sizes: Number of elements of dL/dW, by layer.
        units: Number of units, by layer.
        batch: The samples of the step.
        is_full: Whether everything was measured.
        parts: The values by field.
        times: The times t that were read of a recurrent layer.
        histograms: The layers and their counts, (layers, 512).
        ends: Statistics of the data and of what the loss compares.
    """

    number: int
    time: float
    sizes: dict[str, int]
    units: Mapping[str, int]
    batch: Batch
    is_full: bool = False
    parts: dict[Field, Part] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    histograms: Part | None = None
    trunks: tuple[Trunk, ...] = ()
    unreached: tuple[str, ...] = ()
    part: str = ""
    untrained: tuple[Untrained, ...] = ()
    ends: Ends = field(default_factory=Ends)
    options: tuple[Mapping[str, Any], ...] = ()
    activations: Mapping[str, str] = field(default_factory=dict)
    gated: tuple[str, ...] = ()
    normalizations: tuple[str, ...] = ()
    dropout: float = 0.0
    astray: tuple[Astray, ...] = ()
    repeated: tuple[str, ...] = ()

    def take(self, moment: Any, scale: Tensor | float = 1.0) -> None:
        """Read the quantities of this moment, and divide gradients by the gradient scaler's factor."""
        is_scaled = isinstance(scale, Tensor) or scale != 1
        for read, every_step in READERS[type(moment)]:
            if every_step or self.is_full or isinstance(moment, Successive | Initial):
                for field_, part in read(moment).items():
                    self.parts[field_] = part.divided(scale) if field_.scale is Scale.GRADIENT and is_scaled else part

    @property
    def all_parts(self) -> list[Part]:
        """All values on the device, in the order in which ``read`` expects them."""
        ends = [Part([], numbers) for numbers in self.ends.numbers]
        return [*self.parts.values(), *([self.histograms] if self.histograms else []), *ends]

    def read(self, brought: Iterator[float], order: Sequence[str]) -> Record:
        """Return the record.

        Args:
            brought: The values of ``all_parts``, on the host.
            order: The layers from the input to the loss.
        """
        columns: dict[Field, Mapping[str, float]] = {SIZE: self.sizes, UNITS: self.units}
        for quantity_field, part in self.parts.items():
            columns[quantity_field] = _joined(quantity_field, part.names, part.read(brought))
        trunks = chain.from_iterable(trunk.layers for trunk in self.trunks)
        measured = chain.from_iterable(columns[field_] for field_ in self.parts)
        layers = [name for name in dict.fromkeys(chain(order, trunks, self.sizes, measured)) if name]
        values: Values = {}
        for quantity in _told_by(frozenset(self.parts)):
            needed = [(field_, columns[field_]) for field_ in quantity.fields]
            there = layers
            for _, column in needed:
                there = [name for name in there if name in column]
            found = {}
            for name in there:
                value = quantity.value({field_: column[name] for field_, column in needed})
                if value is not None:
                    found[name] = value
            if found:
                values[quantity.name] = found
        found_totals = ((total.name, total.value(columns, self.batch)) for total in TOTALS)
        totals = {name: value for name, value in found_totals if value is not None}
        histograms = self._histograms(brought)
        heads, given = self.ends.read(brought)
        return Record(
            self.number,
            self.time,
            values,
            totals,
            {
                name: {t: columns[state][name] for t, state in zip(times, STATES, strict=False)}
                for name, times in self.times.items()
                # With sequences of different lengths t is ambiguous.
                if columns[PASSES][name] * columns[LENGTH_SQUARE][name] == columns[LENGTH][name] ** 2
            },
            histograms,
            self.trunks,
            self.unreached,
            self.part,
            self.untrained,
            heads,
            given,
            self.options,
            self.activations,
            self.gated,
            self.normalizations,
            self.dropout,
            self.astray,
            self.repeated,
        )

    def _histograms(self, brought: Iterator[float]) -> dict[str, list[int]]:
        histograms: dict[str, list[int]] = {}
        if self.histograms is not None:
            numbers = iter(self.histograms.read(brought))
            for name in self.histograms.names:
                counts = list(map(int, islice(numbers, OCTAVES)))
                known = histograms.get(name)
                histograms[name] = counts if known is None else [a + b for a, b in zip(known, counts, strict=True)]
        return histograms
