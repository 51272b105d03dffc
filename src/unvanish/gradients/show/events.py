"""Writes records to TensorBoard: one ``Summary`` a step, however many layers there are.

Of each tag TensorBoard keeps 1,000 scalars, drawn by chance, and 10 images, and many tags slow it down. So a long run
is thinned evenly before it is written, and of a deep network evenly spaced layers are charted. It sorts tags as text,
capitals first: ``Overview`` is what a reader sees first.
"""

import json
import math
import re
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import final

from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.report import log10
from unvanish.gradients.layers import short_names
from unvanish.gradients.measure import OCTAVES
from unvanish.gradients.quantities import QUANTITIES
from unvanish.gradients.quantities.clipped import TOTAL_CLIPPED
from unvanish.gradients.quantities.cosine import GRADIENT_COSINE
from unvanish.gradients.quantities.delta import DELTA_RMS
from unvanish.gradients.quantities.gradient import GRADIENT_NORM, TOTAL_GRADIENT
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.record import Record
from unvanish.gradients.show.all_layers import AllLayers
from unvanish.gradients.show.heat_map import heat_map_of, time_maps_of
from unvanish.gradients.show.pictures import picture_of
from unvanish.gradients.show.runs import summary_of
from unvanish.gradients.show.values import picture_value, tensor_value
from unvanish.page.quantities import TAB

OVERVIEW = "Overview"
#: A vanishing gradient looks like zero on TensorBoard's axes, which are linear until somebody asks for more.
_LOG, _LOG_TITLE = "delta_log10", "log10 of the RMS of delta"
CHARTS = {_LOG: _LOG_TITLE} | {q.name: q.title for q in QUANTITIES if q.charted and q is not DELTA_RMS}
#: The logarithm of this is written in its place, where it is read first.
_RATIO, _RATIO_LOG = "gradient/first_over_last", f"{OVERVIEW}/first_over_last_log10"
#: At 9 tags a layer, 8 times a recurrent layer and a dozen of the run's own, under 500 tags in all.
CHARTED_LAYERS = 42
CHARTED_RECURRENT_LAYERS = 8
CHARTED_SUMS = 30

FIRST_STEPS = 50
POINTS = 800
#: Of the steps between full ones, which have nothing but the loss and the norm over all layers.
POINTS_BETWEEN = 200
HISTOGRAMS = 90
#: Steps of which the tab has all layers of a deep network.
STEPS_OF_ALL = 240
#: Records with NaN or infinity that are written out of turn: in all, a tag has under 1,000 points.
OUT_OF_TURN = 50


@final
class EventWriter:
    """Writes what a recorder gives to one TensorBoard log.

    Scalars are ``Overview/loss`` and ``Overview/first_over_last_log10``; ``<quantity>/<layer>`` for each of ``CHARTS``,
    ``dh_log10/<layer>/t0001`` of a recurrent layer; and ``gradient/norm``, ``gradient/norm_clipped``,
    ``gradient/non_finite`` and ``gradient/zeros`` over all layers; the histograms ``gradient_log10/<layer>`` have log10
    of the magnitudes in dL/dW on their axis. Layers' names are short. Of a deep network some layers have these, evenly
    spaced, and ``gradient/layers/0000`` and what follows has them all, for the tab Gradients alone. The custom scalars
    page gets a chart for each quantity, the images page the verdict with |delta| by depth, and heat maps by step.

    A run gets at most 800 points of the steps at which everything was measured, and 200 of those between: the loss and
    the norm over all layers.

    Args:
        writer: The log.
        total_steps: How many steps the run has, in the count of ``Record.step``; None where nobody knows.
    """

    def __init__(self, writer: SummaryWriter, total_steps: int | None = None) -> None:
        self._writer = writer
        self._full, self._between = _Thinning(POINTS, total_steps), _Thinning(POINTS_BETWEEN, total_steps)
        self._histograms = _Thinning(HISTOGRAMS, total_steps)
        self._all = AllLayers()
        self._all_thinning = _Thinning(STEPS_OF_ALL, total_steps)
        self._out_of_turn = 0
        self._names: dict[str, str] = {}
        #: What is charted, layers and sums.
        self._charted: dict[str, str] = {}
        self._times: dict[str, list[int]] = {}
        self._notes: list[str] = []
        self._has_layout = False

    def write(self, record: Record, summary: Mapping[str, float]) -> None:
        """Write a step, if it is its turn: NaN and infinity as they are.

        Args:
            record: The step.
            summary: More scalars of it, by tag, such as gradient/first_over_last.
        """
        # What was measured, and by which optimizer's layers: each such kind is thinned by itself, lest the steps at
        # which everything is measured never have their turn.
        kind = *record.values, next(iter(record.of(GRADIENT_NORM)), None)
        has_histograms = bool(record.histograms) and self._histograms.is_due(kind, record.step)
        thinning = self._full if record.is_full else self._between
        if not (thinning.is_due(kind, record.step) or has_histograms or self._is_alarming(record)):
            return
        self._chart_new_layers(record)
        summary = _headline(record, summary)
        values = [*self._scalar_values(record), *_values(_totals(record) | {**summary})]
        if has_histograms:
            values += (
                Summary.Value(tag=f"gradient_log10/{self._names[layer]}", histo=histogram(counts))
                for layer, counts in record.histograms.items()
                if layer in self._charted
            )
        is_deep = len(self._charted) < len(self._names)
        if is_deep and record.is_full and self._all_thinning.is_due((), record.step):
            values += self._all.take(record, self._names)
        if record.is_full and not self._has_layout:
            self._has_layout = True
            layout = _layout(record, summary, [self._names[layer] for layer in self._times])
            values.append(tensor_value("custom_scalars__config__", "custom_scalars", layout.SerializeToString()))
        if self._notes:
            values.append(tensor_value("gradient/charts", "text", "\n\n".join(self._notes).encode()))
            self._notes.clear()
        self._add(values, record.step, record.time)

    def tell(self, report: Report) -> None:
        """Write the verdict as a text, and what the tab Gradients has to know beside the scalars."""
        text = tensor_value("gradient/verdict", "text", _markdown(report).encode())
        summary = json.dumps(summary_of(report, self._names), allow_nan=False).encode()
        values = [text, tensor_value("gradient/summary", TAB, summary), *self._all.rest(self._names)]
        self._add(values, report.last_step, time.time())

    def close(self, report: Report) -> None:
        """Write what is seen first, the verdict above |delta| by depth, and the heat maps of the whole run."""
        self._add([*self._all.rest(self._names)], report.last_step, time.time())
        if report.has_deltas:
            self._image(f"{OVERVIEW}/verdict", picture_of(report), report.last_step)
            self._image("gradient/delta_heat_map", heat_map_of(report), report.last_step)
        for layer, png in time_maps_of(report).items():
            if layer in self._times:
                self._image(f"gradient/dh_heat_map/{self._names[layer]}", png, report.last_step)

    def _image(self, tag: str, png: bytes, step: int) -> None:
        self._add([picture_value(tag, png)], step, time.time())

    def _add(self, values: list[Summary.Value], step: int, wall_time: float) -> None:
        summary = Summary(value=values)
        self._writer._get_file_writer().add_summary(summary, step, wall_time)  # type: ignore[no-untyped-call]

    def _is_alarming(self, record: Record) -> bool:
        if self._out_of_turn >= OUT_OF_TURN or math.isfinite(record.totals.get(TOTAL_GRADIENT.name, 0.0)):
            return False
        self._out_of_turn += 1
        return True

    def _chart_new_layers(self, record: Record) -> None:
        """Name the layers that were not seen before, and choose those to chart."""
        values = record.values
        sums = values.get(STREAM_NORM.name, {})
        layers = dict.fromkeys([*values.get(DELTA_RMS.name, ()), *values.get(GRADIENT_NORM.name, ())])
        for kind, names, room in (("layers", layers, CHARTED_LAYERS), ("sums", sums, CHARTED_SUMS)):
            new = [layer for layer in names if layer not in self._names]
            if new:
                short = short_names([*self._names, *new])
                self._names |= {layer: short[layer] for layer in new}
                chosen = _evenly_spaced(new, room - sum(self._charted[name] == kind for name in self._charted))
                self._charted |= dict.fromkeys(chosen, kind)
                if len(chosen) < len(new):
                    self._notes.append(f"{len(chosen)} of {len(new)} {kind} are charted, evenly spaced.")
        if record.through_time and not self._times:
            chosen = _evenly_spaced(list(record.through_time), CHARTED_RECURRENT_LAYERS)
            self._times = {layer: list(record.through_time[layer]) for layer in chosen}
            if len(chosen) < len(record.through_time):
                count = f"{len(chosen)} of {len(record.through_time)}"
                self._notes.append(f"Of {count} recurrent layers dL/dh_t is charted.")

    def _scalar_values(self, record: Record) -> Iterator[Summary.Value]:
        logs = {layer: log10(value) for layer, value in record.values.get(DELTA_RMS.name, {}).items()}
        # Of the steps between, the norm over all layers says enough; each scalar costs time.
        is_between = not record.is_full and math.isfinite(record.totals.get(TOTAL_GRADIENT.name, math.nan))
        for quantity in CHARTS:
            if quantity == GRADIENT_NORM.name and is_between:
                continue
            for layer, value in (record.values | {_LOG: logs}).get(quantity, {}).items():
                if layer in self._charted:
                    yield Summary.Value(tag=f"{quantity}/{self._names[layer]}", simple_value=value)
        for layer, times in self._times.items():
            # Sequences of another length are read at other times, whose charts would be too many.
            norms = record.through_time.get(layer, {})
            for t in times:
                if t in norms:
                    yield Summary.Value(tag=f"dh_log10/{self._names[layer]}/t{t:04}", simple_value=log10(norms[t]))


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


def _markdown(report: Report) -> str:
    verdict = report.end
    if not verdict.findings:
        return f"**{verdict.name}** after {report.steps} steps: {verdict.evidence}.\n\n**Why:** {verdict.cause}"
    return "\n\n".join(
        f"**{finding.name}** after {report.steps} steps: {finding.evidence}.\n\n**Why:** {finding.cause}\n\n"
        f"**Try** {', '.join(finding.remedies)}."
        for finding in verdict.findings
    )


def _headline(record: Record, summary: Mapping[str, float]) -> dict[str, float]:
    """What sums a step up, what is read first with its tag; no linear twin of a logarithm."""
    first = {f"{OVERVIEW}/loss": record.totals[LOSS.name]} if LOSS.name in record.totals else {}
    if f"{_RATIO}_log10" in summary:
        first[_RATIO_LOG] = summary[f"{_RATIO}_log10"]
    return first | {tag: value for tag, value in summary.items() if tag not in (_RATIO, f"{_RATIO}_log10")}


def _totals(record: Record) -> dict[str, float]:
    totals = {
        tag: record.totals[total.name]
        for tag, total in (("gradient/norm", TOTAL_GRADIENT), ("gradient/norm_clipped", TOTAL_CLIPPED))
        if total.name in record.totals
    }
    if record.histograms:
        half = OCTAVES // 2
        for tag, octave in (("gradient/non_finite", half - 1), ("gradient/zeros", 0)):
            totals[tag] = sum(counts[octave] + counts[half + octave] for counts in record.histograms.values())
    return totals


def _values(scalars: Mapping[str, float]) -> Iterator[Summary.Value]:
    return (Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items())


def _layout(record: Record, summary: Mapping[str, float], recurrent: list[str]) -> layout_pb2.Layout:
    """A chart for each quantity with all layers, which TensorBoard's own pages show one by one."""
    # The cosine needs two steps: the first record is without it.
    quantities = [q for q in CHARTS if q in record.values or q in (_LOG, GRADIENT_COSINE.name)]
    charts = [_chart(tag, f"^{re.escape(tag)}$") for tag in (*summary, "gradient/norm")]
    charts += [_chart(f"{quantity}: {CHARTS[quantity]}", f"^{quantity}/") for quantity in quantities]
    title = "dh_log10: log10 of the norm of dL/dh_t"
    charts += [_chart(f"{title}, {name}", f"^dh_log10/{re.escape(name)}/t") for name in recurrent]
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
