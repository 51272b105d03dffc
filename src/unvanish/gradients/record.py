"""What a recorder gives: the numbers of a step, on the host."""

import math
import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

from torch import Tensor

from unvanish.gradients.ends import Ends, Given
from unvanish.gradients.graph import Trunk
from unvanish.gradients.heads import Head
from unvanish.gradients.measure import OCTAVES
from unvanish.gradients.missing import Untrained
from unvanish.gradients.quantities import (
    QUANTITIES,
    READERS,
    Field,
    Initial,
    Part,
    Quantity,
    Reduction,
    Scale,
    Successive,
)
from unvanish.gradients.quantities.clipped import CLIPPED
from unvanish.gradients.quantities.gain import UNITS
from unvanish.gradients.quantities.gradient import GRADIENT, SIZE
from unvanish.gradients.quantities.noise import SMALL_BATCHES, noise
from unvanish.gradients.quantities.quantity import LOSS
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES

Values = dict[str, dict[str, float]]


@cache
def _told_by(fields: frozenset[Field]) -> list[tuple[Quantity, frozenset[Field]]]:
    """The quantities that these fields tell, with those that they need."""
    return [(q, frozenset(q.fields)) for q in QUANTITIES if fields.issuperset({*q.fields} - {SIZE, UNITS})]


@dataclass(frozen=True, repr=False)
class Record:
    """What was measured at one optimizer step.

    Args:
        step: Number of the step.
        time: When it was taken, in seconds since the epoch.
        values: For each quantity of the table (see ``quantities``) a value for each layer that had one, from the input
            to the loss. Zero, infinity and NaN are values; what was not measured is left out.
        totals: The loss, where it was given; gradient_norm and gradient_norm_clipped over all parameters, biases and
            gains among them; noise_variance tr(Sigma) and noise_signal |G|^2, where a step has several micro-batches or
            ranks, whose
            gradients are taken to be those of a mean over all: their ratio is the gradient noise scale in samples.
        through_time: |dL/dh_t| of a recurrent layer by t, which begins with 1; of a layer that is called again and
            again on what it has returned, |dL/dz| by call.
        histograms: Counts of dL/dW by octave (see ``measure.octave_counts``), where they were taken.
        trunks: What the network's layers are in line, as autograd's graph has told; empty where it did not.
        unreached: The layers that were run, but have no way to the loss, nor has anything before them.
        part: What the layers of the optimizer have in common; empty where it steps all of them.
        untrained: What does not train although it seems to.
        heads: What the loss compares, where everything was measured.
        given: The data that the network was fed, in the first steps.
        options: Of the optimizers that have made the step: learning rate, momentum and their like, by group.
        activations: The kind of activation after each layer.
        gated: The recurrent layers with gates.
        normalizations: The classes of what normalizes, such as LayerNorm.
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

    def __repr__(self) -> str:
        names = dict.fromkeys(layer for layers in self.values.values() for layer in layers)
        return f"Record(step={self.step}, {len(self.values)} quantities of {len(names)} layers)"

    def layers_with(self, quantity: Quantity) -> list[str]:
        """The layers of which a quantity was measured."""
        return list(self.values.get(quantity.name, ()))

    @property
    def is_full(self) -> bool:
        """Whether everything was measured, and not the weights' gradients alone."""
        return "delta_norm" in self.values

    @property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        found = [self.totals, *(self.values.get(quantity, {}) for quantity in ("gradient_norm", "delta_norm"))]
        return all(math.isfinite(value) for values in found for value in values.values())


@dataclass
class Step:
    """A step whose numbers are still on the device.

    Args:
        number: Of the optimizer step.
        time: In seconds since the epoch.
        sizes: How many numbers dL/dW has, by layer.
        units: How many units each layer has.
        batch_size: Samples in a micro-batch on one rank.
        ranks: How many ranks have shared the batch.
        is_full: Whether everything was measured.
        parts: The numbers by field.
        times: The times t that were read of a recurrent layer.
        histograms: The layers and their counts, (layers, 512).
        trunks: As of ``Record``.
        unreached: As of ``Record``.
        part: As of ``Record``.
        untrained: As of ``Record``.
        ends: The data and the loss, in numbers that are on the device still.
        options: As of ``Record``.
        activations: As of ``Record``.
        gated: As of ``Record``.
        normalizations: As of ``Record``.
    """

    number: int
    time: float
    sizes: dict[str, int]
    units: Mapping[str, int]
    batch_size: int | None
    ranks: int
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

    def take(self, moment: Any, scale: Tensor | float = 1.0) -> None:
        """Have the quantities of this moment read, and what a scaler has done to gradients taken out."""
        is_scaled = isinstance(scale, Tensor) or scale != 1
        for read, every_step in READERS[type(moment)]:
            if every_step or self.is_full or isinstance(moment, Successive | Initial):
                for field_, part in read(moment).items():
                    self.parts[field_] = part.divided(scale) if field_.scale is Scale.GRADIENT and is_scaled else part

    @property
    def all_parts(self) -> list[Part]:
        """In the order in which ``read`` expects their numbers."""
        ends = [Part([], numbers) for numbers in self.ends.numbers]
        return [*self.parts.values(), *([self.histograms] if self.histograms else []), *ends]

    def read(self, brought: Iterator[float], order: Sequence[str]) -> Record:
        """The record, from what was brought from the device in the order of its parts; layers in ``order``."""
        layers: dict[str, dict[Field, float]] = defaultdict(dict)
        for name, size in self.sizes.items():
            layers[name] |= {SIZE: size, UNITS: self.units.get(name, 0)}
        for quantity_field, part in self.parts.items():
            add = math.hypot if quantity_field.reduction is Reduction.NORM else operator.add
            for name, number in zip(part.names, part.read(brought), strict=True):
                known = (fields := layers[name]).get(quantity_field)
                fields[quantity_field] = number if known is None else add(known, number)
        others = layers.pop("", {})
        names = dict.fromkeys((*order, *(name for trunk in self.trunks for name in trunk.layers), *layers))
        ordered = {name: layers[name] for name in names if name in layers}
        values: Values = {}
        for quantity, needed in _told_by(frozenset(self.parts)):
            found = {
                name: value
                for name, fields in ordered.items()
                if needed <= fields.keys() and (value := quantity.value(fields)) is not None
            }
            if found:
                values[quantity.name] = found
        totals = {
            name: math.hypot(*(f[total] for f in (*layers.values(), others) if total in f))
            for name, total in (("gradient_norm", GRADIENT), ("gradient_norm_clipped", CLIPPED))
            if total in self.parts
        } | ({"loss": others[LOSS]} if LOSS in others else {})
        histograms = self._histograms(brought)
        heads, given = self.ends.read(brought)
        return Record(
            self.number,
            self.time,
            values,
            totals | (noise(layers, self.batch_size, self.ranks) if SMALL_BATCHES in self.parts else {}),
            {
                name: {t: layers[name][state] for t, state in zip(times, STATES, strict=False)}
                for name, times in self.times.items()
                # Of sequences of several lengths t has no one meaning.
                if layers[name][PASSES] * layers[name][LENGTH_SQUARE] == layers[name][LENGTH] ** 2
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
