"""Draws |delta| by depth, as PNGs."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle, repeat
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.seen import in_line, medians
from unvanish.gradients.layers import short_names
from unvanish.gradients.record import Record

#: What has no place on a logarithmic scale; both are far from any of cividis, also for the colour-blind.
BROKEN, ZERO = "#FF00FF", "#FFFFFF"
#: Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
#: Decades that a scale shows at least, so that a healthy network looks even: a verdict needs three.
_DECADES = 3.0
#: In plain letters: matplotlib takes longer to set mathematics than to draw all the rest.
_DELTA = "|δ| = |∂L/∂z|"


def picture_of(report: Report) -> bytes:
    """|delta| by depth in the first steps and in the last, and as theory expects it, as PNG."""
    windows = [records for records in (report.first, report.last) if records]
    curves = {f"steps {_span(records)}": _line(records) for records in windows}
    return delta_by_depth(curves, report.expected or None, f"{report.end.name} after {report.steps} steps")


def heat_map_of(report: Report) -> bytes:
    """|delta| by depth and step, as PNG."""
    return heat_map([record.step for record in report.sample], [_line([record]) for record in report.sample])


def _line(records: Sequence[Record]) -> dict[str, float]:
    """The gradient along the longest trunk; where autograd's graph has told none, of all layers."""
    trunks = [trunk for record in records[-1:] for trunk in record.trunks[:1]]
    line = in_line(records, trunks[0]) if trunks else {}
    return line if len(line) > 1 else medians(records, "delta_norm")


def _span(records: Sequence[Record]) -> str:
    first, last = records[0].step, records[-1].step
    return str(first) if first == last else f"{first} to {last}"


def heat_map(steps: Sequence[int], deltas: Sequence[Mapping[str, float]]) -> bytes:
    """A PNG of log10 |delta|: a row a layer, the input below, and a column a step, all of one width.

    Args:
        steps: Numbers of the steps, at most 256.
        deltas: |delta| at each of them, by the full names of the layers, in the order of the forward pass.

    Raises:
        ValueError: there is no layer, or not a number for each column.
    """
    layers = _layers(deltas)
    if len(steps) != len(deltas):
        raise ValueError(f"{len(steps)} steps for {len(deltas)} columns")
    values = np.array([[column.get(layer, math.nan) for column in deltas] for layer in layers])
    missing = np.array([[layer not in column for column in deltas] for layer in layers])
    broken, zero = ~np.isfinite(values) & ~missing, values == 0
    hidden = missing | broken | zero
    logs = np.log10(values, where=~hidden, out=np.zeros_like(values))

    height = min(max(0.2 * len(layers) + 1.6, 3.2), 6.4)
    ticks = _layer_ticks(layers, 24)
    # Placed by hand, in inches: a layout engine would draw everything twice, while a training waits.
    figure = new_figure(height, layout=None)
    left, bottom = 0.75 + 0.085 * max(map(len, ticks[1])), 0.85
    axes = figure.add_axes((left / 7, bottom / height, (5.9 - left) / 7, 1 - (bottom + 0.35) / height))
    low, high = _limits(logs[~hidden])
    scale = ScalarMappable(Normalize(low, high), "cividis")
    picture = scale.to_rgba(logs)
    picture[broken], picture[zero], picture[missing] = to_rgba(BROKEN), to_rgba(ZERO), 0.0
    # A hatched ground shows through where nothing was measured.
    axes.patch.set(facecolor="#EEEEEE", edgecolor="#999999", hatch="////")
    axes.imshow(picture, aspect="auto", origin="lower", interpolation="nearest")
    notes = [
        Patch(facecolor=colour, edgecolor=edge, hatch=hatch, label=label)
        for cells, colour, edge, hatch, label in (
            (broken, BROKEN, "black", None, "NaN or infinite"),
            (zero, ZERO, "black", None, "exactly 0"),
            (missing, "#EEEEEE", "#999999", "////", "not measured"),
        )
        if cells.any()
    ]
    bar = figure.add_axes((6.0 / 7, bottom / height, 0.2 / 7, 1 - (bottom + 0.35) / height))
    figure.colorbar(scale, cax=bar, label=f"log₁₀ {_DELTA} (L2 norm)")
    axes.set_yticks(*ticks)
    axes.set_ylabel(f"layer, the first of {len(layers)} at the bottom")
    columns = _spread(len(steps), 8)
    axes.set_xticks(columns, [f"{steps[column]:,}" for column in columns])
    is_even = len(set(np.diff(steps).tolist())) <= 1
    axes.set_xlabel("optimizer step" if is_even else "optimizer step (a column for each measured)")
    axes.set_title("The gradient that reaches each layer", loc="left")
    if notes:
        figure.legend(handles=notes, loc="lower right", ncols=len(notes), frameon=False)
    return as_png(figure)


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
    layers = _layers([*curves.values(), expected or {}])
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    axes.set_yscale("log")
    # The first curve is drawn larger, because training may leave the second exactly on it.
    sizes = chain([1.7], repeat(1.0))
    for (label, curve), size, colour, marker in zip(
        curves.items(), sizes, cycle(COLOURS), cycle(MARKERS), strict=False
    ):
        _draw_curve(axes, layers, curve, label, colour, marker, "-", size)
    if expected:
        _draw_curve(axes, layers, expected, "expected from theory", "black", "", "--", 1.0)
    every = np.array([value for curve in (*curves.values(), expected or {}) for value in curve.values()])
    low, high = _limits(np.log10(every[(every > 0) & np.isfinite(every)]))
    margin = 0.06 * (high - low)
    axes.set_ylim(10 ** (low - margin), 10 ** (high + margin))
    axes.set_xlim(-0.5, len(layers) - 0.5)
    places, names = _layer_ticks(layers, 24 if len(layers) <= 24 else 14)
    axes.set_xticks(places, names)
    if sum(map(len, names)) > 90:
        axes.tick_params(axis="x", labelrotation=45)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_xlabel(f"layer, the first of {len(layers)} on the left")
    axes.set_ylabel(f"{_DELTA} (L2 norm)")
    figure.suptitle(title, x=0.01, ha="left", fontsize="large", wrap=True)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    # Above the axes, because what is marked at their edges must not be covered.
    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3 if longest < 24 else 1, frameon=False)
    return as_png(figure)


def _draw_curve(
    axes: Axes,
    layers: list[str],
    curve: Mapping[str, float],
    label: str,
    colour: str,
    marker: str,
    line: str,
    size: float,
) -> None:
    values = np.array([curve.get(layer, math.nan) for layer in layers])
    measured = np.array([layer in curve for layer in layers])
    kinds = (
        ("▽ exactly 0", values == 0, "v", 0.015),
        ("△ infinite", np.isinf(values), "^", 0.985),
        ("✕ NaN", np.isnan(values) & measured, "x", 0.985),
    )
    told = [f"{name} in {chosen.sum()}" for name, chosen, _, _ in kinds if chosen.any()]
    label += f" ({', '.join(told)} of {measured.sum()})" if told else ""
    drawn = np.where((values > 0) & np.isfinite(values), values, math.nan)
    marker_size = size * (5 if len(layers) <= 60 else 2.5)
    axes.plot(drawn, line, color=colour, marker=marker, markersize=marker_size, label=label, linewidth=1.6 * size)
    for _, chosen, edge, height in kinds:
        places = np.flatnonzero(chosen)
        axes.plot(
            places,
            np.full(len(places), height),
            edge,
            color=colour,
            markersize=marker_size + 2,
            markerfacecolor="none",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def _layers(columns: Iterable[Mapping[str, float]]) -> list[str]:
    layers = list(dict.fromkeys(layer for column in columns for layer in column))
    if not layers:
        raise ValueError("there is no layer to draw")
    return layers


def _layer_ticks(layers: list[str], count: int) -> tuple[list[int], list[str]]:
    """Where to write which layer's name."""
    names = list(short_names(layers).values())
    places = _spread(len(layers), count)
    return places, [_shortened(names[place]) for place in places]


def _shortened(name: str) -> str:
    """A name of at most 24 characters; of a longer one, the end."""
    while len(name) > 24 and "." in name:
        name = name.partition(".")[2]
    return name[-24:]


def _spread(length: int, count: int) -> list[int]:
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


def new_figure(height: float, width: float = 7, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A figure of its own, which pyplot does not know of, in inches."""
    figure = Figure(figsize=(width, height), dpi=140, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> bytes:
    """What a file of the figure holds."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
