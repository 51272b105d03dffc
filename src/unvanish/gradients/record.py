"""What a recorder gives: the numbers of a step, on the host."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unvanish.gradients.measure import noise_scale
from unvanish.gradients.ranks import Part

Values = dict[str, dict[str, float]]

#: A float32 norm outside of this range may have lost its squares to underflow, or to overflow.
SAFE_FLOAT32 = (1e-15, 1e15)


@dataclass(frozen=True)
class Record:
    """What was measured at one optimizer step.

    Args:
        step: Number of the step.
        time: When it was taken, in seconds since the epoch.
        values: For each quantity a value for each layer that had one, in the order of the forward pass. At every step:
            gradient_norm and gradient_rms of dL/dW. Where everything is measured: delta_norm and delta_rms of dL/dz;
            activation_mean and activation_std; saturated_share of tanh and sigmoid, dead_share of ReLU;
            gradient_norm_clipped, as the optimizer saw it; update_ratio |W' - W| / |W|; and gradient_cosine, between
            this step's gradient and the one before it, one step later. A value may be NaN; what was not measured is
            left out.
        totals: gradient_norm and gradient_norm_clipped over all weights; noise_variance tr(Sigma) and noise_signal
            |G|^2, where a step has several micro-batches or ranks, whose gradients are taken to be those of a mean over
            all: their ratio is the gradient noise scale in samples.
        through_time: |dL/dh_t| of a recurrent layer by t, which begins with 1.
        histograms: Counts of dL/dW by octave (see ``measure.octave_counts``), where they were taken.
    """

    step: int
    time: float
    values: Values
    totals: dict[str, float] = field(default_factory=dict)
    through_time: dict[str, dict[int, float]] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether no gradient is NaN or infinite."""
        return all(
            math.isfinite(value)
            for quantity in ("gradient_norm", "delta_norm")
            for value in self.values.get(quantity, {}).values()
        )


@dataclass
class Step:
    """A step whose numbers are still on the device.

    Args:
        number: Of the optimizer step.
        time: In seconds since the epoch.
        sizes: How many numbers dL/dW has, by layer.
        batch_size: Samples in a micro-batch on one rank.
        ranks: How many ranks have shared the batch.
        is_full: Whether everything was measured.
        parts: The numbers by quantity.
        times: The times t that were read of a recurrent layer.
        histograms: The layers and their counts, (layers, 512).
    """

    number: int
    time: float
    sizes: dict[str, int]
    batch_size: int | None
    ranks: int
    is_full: bool = False
    parts: dict[str, Part] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    histograms: Part | None = None

    @property
    def all_parts(self) -> list[Part]:
        """In the order in which ``read`` expects their numbers."""
        return [*self.parts.values(), *([self.histograms] if self.histograms else [])]

    def read(self, numbers: Sequence[float], order: list[str]) -> Record:
        """The record, from this step's numbers in the order of its parts, layers in ``order``."""
        found: Values = {}
        for quantity, part in self.parts.items():
            count = len(part.names)
            combined = _combine(part.names, numbers[:count], math.hypot if _is_norm(quantity) else float.__add__)
            numbers = numbers[count:]
            base = quantity.removesuffix("_float32")
            if base != quantity:
                combined = {name: norm for name, norm in combined.items() if _is_safe(norm)}
            found[base] = found.get(base, {}) | combined
        found = {quantity: {n: values[n] for n in order if n in values} for quantity, values in found.items()}
        histograms: dict[str, list[int]] = {}
        if self.histograms is not None:
            width = self.histograms.values.shape[1]
            for index, name in enumerate(self.histograms.names):
                counts = list(map(int, numbers[index * width : (index + 1) * width]))
                known = histograms.get(name)
                histograms[name] = counts if known is None else [a + b for a, b in zip(known, counts, strict=True)]
        values = self._values(found)
        return Record(self.number, self.time, values, self._totals(found, values), self._through(found), histograms)

    def _values(self, found: Values) -> Values:
        gradient = found.get("gradient", {})
        values: Values = {"gradient_norm": gradient}
        values["gradient_rms"] = {n: norm / math.sqrt(self.sizes[n]) for n, norm in values["gradient_norm"].items()}
        seen = {name: count for name, count in found.get("delta_count", {}).items() if count}
        values["delta_norm"] = {name: found["delta"][name] for name in seen}
        values["delta_rms"] = {name: found["delta"][name] / math.sqrt(count) for name, count in seen.items()}
        counts = {name: count for name, count in found.get("activation_count", {}).items() if count}
        means = {name: found["activation"][name] / count for name, count in counts.items()}
        values["activation_mean"] = means
        values["activation_std"] = {
            name: _root(found["squares"][name] / count - means[name] ** 2) for name, count in counts.items()
        }
        for share, part, whole in (
            ("saturated_share", "saturated", "saturated_count"),
            ("dead_share", "dead", "units"),
        ):
            wholes = {name: count for name, count in found.get(whole, {}).items() if count}
            values[share] = {name: found[part][name] / count for name, count in wholes.items()}
        values["update_ratio"] = {
            name: norm / weight if (weight := found["weight"][name]) else math.nan
            for name, norm in found.get("update", {}).items()
            if name in found["weight"]
        }
        values["gradient_norm_clipped"] = found.get("clipped", {})
        values["gradient_cosine"] = {
            name: product / scale if (scale := found["previous"][name] * gradient[name]) else math.nan
            for name, product in found.get("product", {}).items()
            if name in gradient and name in found["previous"]
        }
        return {quantity: layers for quantity, layers in values.items() if layers}

    def _totals(self, found: Values, values: Values) -> dict[str, float]:
        totals: dict[str, float] = {}
        for quantity in ("gradient_norm", "gradient_norm_clipped"):
            if (layers := values.get(quantity, {})) and layers.keys() == self.sizes.keys():
                totals[quantity] = math.hypot(*layers.values())
        gradient, counts = found.get("gradient", {}), found.get("small_batch_count", {})
        passes = {counts.get(name, 0) for name in gradient}
        if self.batch_size is None or len(passes) != 1 or (small_batches := passes.pop()) <= 1:
            return totals
        # The gradients of micro-batches are added, those of ranks averaged.
        micro_batches = small_batches / self.ranks
        totals["noise_variance"], totals["noise_signal"] = noise_scale(
            micro_batches**2 * sum(found["small_batch"][name] ** 2 for name in gradient) / small_batches,
            sum(norm**2 for norm in gradient.values()),
            self.batch_size,
            self.batch_size * small_batches,
        )
        return totals

    def _through(self, found: Values) -> dict[str, dict[int, float]]:
        """|dL/dh_t|, of layers whose sequences were of one length in all passes: of others t has no one meaning."""
        count, length, square = (found.get(quantity, {}) for quantity in ("passes", "length", "length_square"))
        return {
            name: {time: found[f"state_{index}"][name] for index, time in enumerate(times)}
            for name, times in self.times.items()
            if count[name] * square[name] == length[name] ** 2
        }


def _is_norm(quantity: str) -> bool:
    norms = ("gradient", "previous", "clipped", "weight", "update", "delta", "small_batch")
    return quantity.removesuffix("_float32") in norms or quantity.startswith("state_")


def _is_safe(norm: float) -> bool:
    """Whether a float32 norm is what it says, and no underflow or overflow of its squares."""
    return math.isnan(norm) or SAFE_FLOAT32[0] <= norm <= SAFE_FLOAT32[1]


def _combine(names: list[str], numbers: Sequence[float], add: Callable[[float, float], float]) -> dict[str, float]:
    """The numbers by layer; those of one layer are combined."""
    combined: dict[str, float] = {}
    for name, number in zip(names, numbers, strict=True):
        combined[name] = add(combined[name], number) if name in combined else number
    return combined


def _root(square: float) -> float:
    """The square root; rounding may have left a negative zero, and NaN stays NaN."""
    return math.sqrt(square) if square > 0 else 0.0 if square <= 0 else math.nan
