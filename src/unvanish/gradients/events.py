"""Writes records to TensorBoard: one ``Summary`` a step, however many layers there are.

Of each tag TensorBoard keeps 1,000 scalars, drawn by chance, and 10 images, and many tags slow it down. So a long run
is thinned evenly before it is written, and of a deep network evenly spaced layers are charted.
"""

import math
import re
import struct
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import final

from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from unvanish.gradients.layers import short_names
from unvanish.gradients.measure import OCTAVES
from unvanish.gradients.record import Record

#: Charted for each layer, the most telling first; ``saturated_share`` and ``dead_share`` exclude each other.
QUANTITIES = {
    "delta_log10": "log10 of the RMS of delta",
    "delta_rms": "RMS of delta = dL/dz",
    "gradient_norm": "norm of dL/dW",
    "update_ratio": "update of W over W",
    "gradient_cosine": "of dL/dW with the step before",
    "activation_mean": "mean of the activation",
    "activation_std": "standard deviation of the activation",
    "saturated_share": "share of saturated values",
    "dead_share": "share of dead ReLU units",
}
#: At 9 tags a layer, 8 times a recurrent layer and a dozen of the run's own, under 500 tags in all.
CHARTED_LAYERS = 45
CHARTED_RECURRENT_LAYERS = 8

FIRST_STEPS = 50
POINTS = 800
HISTOGRAMS = 90
#: Records with NaN or infinity that are written out of turn: in all, a tag has under 1,000 points.
OUT_OF_TURN = 50


@final
class EventWriter:
    """Writes what a recorder gives to one TensorBoard log.

    Scalars are ``<quantity>/<layer>`` for each of ``QUANTITIES``, ``dh_norm/<layer>/t0001`` of a recurrent layer, and
    ``gradient/norm``, ``gradient/norm_clipped``, ``gradient/non_finite`` and ``gradient/zeros`` over all layers; the
    histograms ``gradient_log10/<layer>`` have log10 of the magnitudes in dL/dW on their axis. Layers' names are short.
    The custom scalars page gets a chart for each quantity.

    Args:
        writer: The log.
        total_steps: How many steps the run has, in the count of ``Record.step``; None where nobody knows.
    """

    def __init__(self, writer: SummaryWriter, total_steps: int | None = None) -> None:
        self._writer = writer
        self._scalars = _Thinning(POINTS, total_steps)
        self._histograms = _Thinning(HISTOGRAMS, total_steps)
        self._out_of_turn = 0
        self._names: dict[str, str] = {}
        self._charted: set[str] = set()
        self._times: dict[str, list[int]] = {}
        self._notes: list[str] = []
        self._has_layout = False

    def write(self, record: Record, summary_scalars: dict[str, float]) -> None:
        """Write a step, if it is its turn: NaN and infinity as they are.

        Args:
            record: The step.
            summary_scalars: More scalars of it, by tag, such as gradient/first_over_last.
        """
        # What was measured, and by which optimizer's layers: each such kind is thinned by itself, lest the steps at
        # which everything is measured never have their turn.
        kind = *record.values, next(iter(record.values.get("gradient_norm", ())), None)
        has_histograms = bool(record.histograms) and self._histograms.is_due(kind, record.step)
        if not (self._scalars.is_due(kind, record.step) or has_histograms or self._is_alarming(record)):
            return
        self._chart_new_layers(record)
        values = [*self._scalar_values(record), *_values(_totals(record) | summary_scalars)]
        if has_histograms:
            values += (
                Summary.Value(tag=f"gradient_log10/{self._names[layer]}", histo=histogram(counts))
                for layer, counts in record.histograms.items()
                if layer in self._charted
            )
        if "delta_norm" in record.values and not self._has_layout:
            self._has_layout = True
            layout = _layout(record, summary_scalars, [self._names[layer] for layer in self._times])
            values.append(_tensor_value("custom_scalars__config__", "custom_scalars", layout.SerializeToString()))
        if self._notes:
            values.append(_tensor_value("gradient/charts", "text", "\n\n".join(self._notes).encode()))
            self._notes.clear()
        self._add(values, record.step, record.time)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text."""
        self._add([_tensor_value(tag, "text", markdown.encode())], step, time.time())

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Write a PNG; TensorBoard keeps 10 images a tag."""
        width, height = struct.unpack(">II", png[16:24])  # the header of the format's first chunk
        picture = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._add([Summary.Value(tag=tag, image=picture)], step, time.time())

    def _add(self, values: list[Summary.Value], step: int, wall_time: float) -> None:
        summary = Summary(value=values)
        self._writer._get_file_writer().add_summary(summary, step, wall_time)  # type: ignore[no-untyped-call]

    def _is_alarming(self, record: Record) -> bool:
        if self._out_of_turn >= OUT_OF_TURN or math.isfinite(record.totals.get("gradient_norm", 0.0)):
            return False
        self._out_of_turn += 1
        return True

    def _chart_new_layers(self, record: Record) -> None:
        """Name the layers that were not seen before, and choose those to chart."""
        layers = dict.fromkeys([*record.values.get("delta_norm", ()), *record.values.get("gradient_norm", ())])
        new = [layer for layer in layers if layer not in self._names]
        if new:
            names = short_names([*self._names, *new])
            self._names |= {layer: names[layer] for layer in new}
            chosen = _evenly_spaced(new, CHARTED_LAYERS - len(self._charted))
            self._charted.update(chosen)
            if len(chosen) < len(new):
                self._notes.append(f"{len(chosen)} of {len(new)} layers are charted, evenly spaced.")
        if record.through_time and not self._times:
            chosen = _evenly_spaced(list(record.through_time), CHARTED_RECURRENT_LAYERS)
            self._times = {layer: list(record.through_time[layer]) for layer in chosen}
            if len(chosen) < len(record.through_time):
                count = f"{len(chosen)} of {len(record.through_time)}"
                self._notes.append(f"Of {count} recurrent layers dL/dh_t is charted.")

    def _scalar_values(self, record: Record) -> Iterator[Summary.Value]:
        # TensorBoard's axes are linear until somebody asks for more, and a vanishing gradient looks like zero on them.
        logs = {layer: log10(value) for layer, value in record.values.get("delta_rms", {}).items()}
        # Of the steps between, the norm over all layers says enough; each scalar costs time.
        is_between = "delta_norm" not in record.values and math.isfinite(record.totals.get("gradient_norm", math.nan))
        for quantity in QUANTITIES:
            if quantity == "gradient_norm" and is_between:
                continue
            for layer, value in (record.values | {"delta_log10": logs}).get(quantity, {}).items():
                if layer in self._charted:
                    yield Summary.Value(tag=f"{quantity}/{self._names[layer]}", simple_value=value)
        for layer, times in self._times.items():
            # Sequences of another length are read at other times, whose charts would be too many.
            norms = record.through_time.get(layer, {})
            for t in times:
                if t in norms:
                    yield Summary.Value(tag=f"dh_norm/{self._names[layer]}/t{t:04}", simple_value=norms[t])


@final
class _Thinning:
    """Chooses the steps of which at most ``points`` are written, evenly over the run.

    Where its length is unknown, the stride doubles as often as the number of steps does, so that the points grow with
    its logarithm: ``points`` are reached after 10^9 steps. The first steps are always written.
    """

    def __init__(self, points: int, total_steps: int | None) -> None:
        self.points = points
        self.total_steps = total_steps
        self._latest: dict[Hashable, int] = {}

    def is_due(self, kind: Hashable, step: int) -> bool:
        """Whether it is this kind of record's turn; if so, it is taken to be written."""
        stride = self._stride(step)
        is_thinned = stride > 1 and step >= min(FIRST_STEPS, self.points // 8)
        # Kinds take turns, so that all of them together stay within the points.
        if is_thinned and step < self._latest.get(kind, -math.inf) + stride * len(self._latest):
            return False
        self._latest[kind] = step
        return True

    def _stride(self, step: int) -> int:
        if self.total_steps is not None:
            return math.ceil(self.total_steps / self.points)
        octave = math.log2(max(step, 1) / (self.points // 8))
        return 1 if octave < 0 else 4 * 2 ** int(octave)


def histogram(counts: Sequence[int]) -> HistogramProto:
    """The magnitudes of a gradient on a log10 axis, an octave a bucket; zeros, NaN and infinities have no place on it.

    Args:
        counts: (512,) as of ``measure.octave_counts``.
    """
    half = OCTAVES // 2
    folded = [counts[e] + counts[half + e] for e in range(half - 1)]
    present = [e for e in range(1, half - 1) if folded[e]]
    if not present:
        return HistogramProto()
    octaves = range(present[0], present[-1] + 1)
    return HistogramProto(
        min=_left_edge(octaves[0]),
        max=_left_edge(octaves[-1] + 1),
        num=sum(folded[e] for e in octaves),
        bucket_limit=[_left_edge(e + 1) for e in octaves],
        bucket=[folded[e] for e in octaves],
    )


def _left_edge(octave: int) -> float:
    """log10 of the smallest float32 with this biased exponent."""
    return (octave - 127) * math.log10(2)


def log10(value: float) -> float:
    """The logarithm of what may be 0, NaN or infinite."""
    return math.log10(value) if value > 0 else -math.inf if value == 0 else math.nan


def _totals(record: Record) -> dict[str, float]:
    totals = {
        tag: record.totals[quantity]
        for tag, quantity in (("gradient/norm", "gradient_norm"), ("gradient/norm_clipped", "gradient_norm_clipped"))
        if quantity in record.totals
    }
    if record.histograms:
        half = OCTAVES // 2
        for tag, octave in (("gradient/non_finite", half - 1), ("gradient/zeros", 0)):
            totals[tag] = sum(counts[octave] + counts[half + octave] for counts in record.histograms.values())
    return totals


def _values(scalars: dict[str, float]) -> Iterator[Summary.Value]:
    return (Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items())


def _tensor_value(tag: str, plugin: str, content: bytes) -> Summary.Value:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[content])
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _layout(record: Record, summary_scalars: dict[str, float], recurrent: list[str]) -> layout_pb2.Layout:
    """A chart for each quantity with all layers, which TensorBoard's own pages show one by one."""
    # The cosine needs two steps: the first record is without it.
    quantities = [q for q in QUANTITIES if q in record.values or q in ("delta_log10", "gradient_cosine")]
    charts = [_chart(tag, f"^{re.escape(tag)}$") for tag in (*summary_scalars, "gradient/norm")]
    charts += [_chart(f"{quantity}: {QUANTITIES[quantity]}", f"^{quantity}/") for quantity in quantities]
    charts += [_chart(f"dh_norm: norm of dL/dh_t, {name}", f"^dh_norm/{re.escape(name)}/t") for name in recurrent]
    return layout_pb2.Layout(category=[layout_pb2.Category(title="gradients by layer", chart=charts)])


def _chart(title: str, pattern: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))


def _evenly_spaced(items: list[str], count: int) -> list[str]:
    """At most ``count`` of the items, the first and the last among them."""
    if len(items) <= count:
        return items
    if count < 2:
        return items[: max(count, 0)]
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]
