"""Draws |delta| by depth, as PNGs."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, cycle, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.seen import in_line, medians
from unvanish.gradients.layers import short_names
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.record import Record
from unvanish.gradients.show.canvas import Canvas, Point, width_of

#: Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Decades that a scale shows at least, so that a healthy network looks even: a verdict needs three.
_DECADES = 3.0
_DELTA = "|δ| = |∂L/∂z|"
#: TensorBoard shows a picture about half as wide and high; its letters can be read there still.
_WIDTH = 640


Items = tuple[tuple[str, float], ...]


def picture_of(report: Report) -> bytes:
    """|delta| by depth in the first steps and in the last, and as theory expects it, as PNG."""
    windows = [records for records in (report.first, report.last) if records]
    curves = tuple((f"steps {_span(records)}", tuple(line_of(records).items())) for records in windows)
    title = f"{report.end.name} after {report.steps} steps"
    return _drawn(curves, tuple(report.expected.items()), title)


@lru_cache(maxsize=1)  # a log and the run's folder get the same one
def _drawn(curves: Sequence[tuple[str, Items]], expected: Items, title: str) -> bytes:
    return delta_by_depth({name: dict(line) for name, line in curves}, dict(expected) or None, title)


def line_of(records: Sequence[Record]) -> dict[str, float]:
    """The gradient along the longest trunk; where autograd's graph has told none, of all layers."""
    trunks = [trunk for record in records[-1:] for trunk in record.trunks[:1]]
    deltas = medians(records, DELTA_NORM)
    line = in_line(deltas | medians(records, STREAM_NORM), trunks[0]) if trunks else {}
    return line if len(line) > 1 else deltas


def _span(records: Sequence[Record]) -> str:
    first, last = records[0].step, records[-1].step
    return str(first) if first == last else f"{first} to {last}"


class Curve(NamedTuple):
    """A line of ``delta_by_depth``, and the places of what has none on a logarithmic axis.

    Args:
        label: With how many there are of those.
        logs: log10 of |delta| by layer; NaN where it has no place on the axis, or was not measured.
        odd: By mark, "v" at the lower edge, "^" and "x" at the upper.
    """

    label: str
    logs: list[float]
    odd: dict[str, list[int]]


def curve_of(layers: Sequence[str], label: str, deltas: Mapping[str, float]) -> Curve:
    """One curve, with a place for each of the layers."""
    values = [deltas.get(layer) for layer in layers]
    odd: dict[str, list[int]] = {"v": [], "^": [], "x": []}
    for place, value in enumerate(values):
        if value is not None and (value == 0 or not math.isfinite(value)):
            odd["v" if value == 0 else "^" if value == math.inf else "x"].append(place)
    words = {"v": "▽ exactly 0", "^": "△ infinite", "x": "✕ NaN"}
    told = ", ".join(f"{words[mark]} in {len(places)}" for mark, places in odd.items() if places)
    logs = [math.log10(value) if value and 0 < value < math.inf else math.nan for value in values]
    return Curve(f"{label} ({told} of {len(deltas)})" if told else label, logs, odd)


def delta_by_depth(
    curves: Mapping[str, Mapping[str, float]], expected: Mapping[str, float] | None, title: str
) -> bytes:
    """A PNG of |delta| by depth, logarithmic; what has no place on that axis is marked at its edge and in the legend.

    Args:
        curves: |delta| by the full names of the layers, in the order of the forward pass, for each label.
        expected: The same from theory.
        title: Above the picture.

    Raises:
        ValueError: there is no layer.
    """
    layers = layers_of([*curves.values(), expected or {}])
    canvas = Canvas(_WIDTH, 460, 2)
    drawn = [curve_of(layers, label, deltas) for label, deltas in curves.items()]
    drawn += [curve_of(layers, "expected from theory", expected)] if expected else []
    lines = textwrap.wrap(title, 46)
    for index, text in enumerate(lines):
        canvas.text(10, 22 + 28 * index, text, size=23)
    columns = min(2 if max(len(curve.label) for curve in drawn) < 24 else 1, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    top = 42 + 28 * len(lines) + 26 * rows
    places, names = layer_ticks(layers, 24 if len(layers) <= 24 else 14)
    is_turned = sum(map(len, names)) > 90
    left, right = max(110, round(0.72 * width_of(names[0])) if is_turned else 0), _WIDTH - 14
    bottom = canvas.height - 60 - (round(0.75 * max(map(width_of, names))) if is_turned else 26)
    every = np.array([log for curve in drawn for log in curve.logs])
    low, high = _limits(every[~np.isnan(every)])
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)

    def at(place: float, log: float) -> Point:
        return left + (place + 0.5) / len(layers) * (right - left), bottom - (log - low) / (high - low) * (bottom - top)

    for decade in _decades(low, high):
        y = at(0, decade)[1]
        canvas.line([(left, y), (right, y)], "#DDDDDD")
        canvas.text(left - 10, y, f"10{f'{decade}'.translate(_RAISED)}", "rm")
    canvas.line([(left, top), (left, bottom), (right, bottom)], "black")
    for place, name in zip(places, names, strict=True):
        x = at(place, low)[0]
        canvas.line([(x, bottom), (x, bottom + 6)], "black")
        canvas.text(x, bottom + 14, name, "rm" if is_turned else "mt", angle=45 if is_turned else 0)
    canvas.text((left + right) / 2, canvas.height - 20, f"layer, the first of {len(layers)} on the left", "mm")
    canvas.text(22, (top + bottom) / 2, f"{_DELTA} (L2 norm)", "mm", angle=90)
    # The first curve is drawn larger, because training may leave the second exactly on it.
    looks = zip(cycle(COLOURS), cycle("osD^v"), chain([1.7], repeat(1.0)), strict=False)
    for index, (curve, (colour, mark, size)) in enumerate(zip(drawn, looks, strict=False)):
        radius = size * (5 if len(layers) <= 60 else 2.5)
        x, y = 10 + 310 * (index % columns), top - 24 - 26 * (rows - 1 - index // columns)
        canvas.text(x + 48, y, curve.label)
        is_theory = bool(expected) and index == len(drawn) - 1
        points = [at(place, log) for place, log in enumerate(curve.logs)]
        runs: list[list[Point]] = [[(x, y), (x + 40, y)], *_runs(points)]
        for run in runs:
            if is_theory:
                canvas.dashes(run, "black")
            else:
                canvas.line(run, colour, 2.2 * size)
        for point in [] if is_theory else [(x + 20, y), *chain(*runs[1:])]:
            canvas.mark(mark, *point, radius, colour)
        for kind, odd in curve.odd.items():
            edge = low + (0.015 if kind == "v" else 0.985) * (high - low)
            for place in odd:
                canvas.mark(kind, *at(place, edge), radius + 2, "black" if is_theory else colour, hollow=True)
    return canvas.png()


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """The points that follow one another without a gap."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _decades(low: float, high: float) -> list[int]:
    """At most eight whole numbers between two, evenly spaced."""
    stride = math.ceil((high - low) / 8)
    return [*range(math.ceil(low / stride) * stride, math.floor(high) + 1, stride)]


def layers_of(columns: Iterable[Mapping[str, float]]) -> list[str]:
    """The layers of all columns, in the order in which they come; a ValueError where there is none."""
    layers = list(dict.fromkeys(layer for column in columns for layer in column))
    if not layers:
        raise ValueError("there is no layer to draw")
    return layers


def layer_ticks(layers: list[str], count: int) -> tuple[list[int], list[str]]:
    """Where to write which layer's name."""
    names = list(short_names(layers).values())
    places = spread(len(layers), count)
    return places, [_shortened(names[place]) for place in places]


def _shortened(name: str) -> str:
    """A name of at most 24 characters; of a longer one, the end."""
    while len(name) > 24 and "." in name:
        name = name.partition(".")[2]
    return name[-24:]


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` indices of ``length``, evenly spaced but for the last, which is always among them."""
    stride = max(math.ceil((length - 1) / (count - 1)), 1)
    places = list(range(0, length, stride))
    if places[-1] != length - 1:
        if length - 1 - places[-1] < stride / 2 and len(places) > 1:
            places.pop()
        places.append(length - 1)
    return places


def _limits(logs: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of a logarithmic scale, in decades."""
    if not logs.size:
        return -_DECADES / 2, _DECADES / 2
    low, high = float(logs.min()), float(logs.max())
    widening = max(_DECADES - (high - low), 0) / 2
    return low - widening, high + widening
