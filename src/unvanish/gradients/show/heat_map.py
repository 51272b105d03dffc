"""Draws gradients by layer, or by time, and step as heat maps, as PNGs: all of them on the one scale."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from unvanish.gradients.judge import Report
from unvanish.gradients.layers import short_names
from unvanish.gradients.show.canvas import Canvas, width_of
from unvanish.gradients.show.pictures import layer_ticks, layers_of, line_of, spread
from unvanish.gradients.show.scale import HIGHEST, LOWEST

#: What has no place on a logarithmic scale; both are far from any of cividis, also for the colour-blind.
BROKEN, ZERO = "#FF00FF", "#FFFFFF"
_MISSING = "#EEEEEE"
#: TensorBoard shows a picture about half as wide; its letters can be read there still.
WIDTH = 680
_PANELS = 6
_SCALE = "the same in every run"
_DELTA, _STATE = "|δ| = |∂L/∂z|", "|∂L/∂h| at t"


class Cells(NamedTuple):
    """What a heat map shows.

    Args:
        rows: Their names; the first is drawn lowest.
        colours: (rows, columns, RGBA), transparent where nothing was measured.
        kinds: Which cells are none of the scale: by name, with the colour of each kind.
    """

    rows: list[str]
    colours: NDArray[np.uint8]
    kinds: dict[str, str]


def cells(columns: Sequence[Mapping[str, float]]) -> Cells:
    """Each row's colour at each step; what lies beyond the scale has the colour of its end."""
    rows = layers_of(columns)
    values = np.array([[column.get(row, math.nan) for column in columns] for row in rows])
    missing = np.array([[row not in column for column in columns] for row in rows])
    broken, zero = ~np.isfinite(values) & ~missing, values == 0
    logs = np.log10(values, where=~(missing | broken | zero), out=np.zeros_like(values))
    colours = mpl.colormaps["cividis"](np.clip((logs - LOWEST) / (HIGHEST - LOWEST), 0.0, 1.0), bytes=True)
    colours[broken], colours[zero], colours[missing] = (255, 0, 255, 255), 255, 0
    found = {"NaN or infinite": (broken, BROKEN), "exactly 0": (zero, ZERO), "not measured": (missing, _MISSING)}
    return Cells(rows, colours, {name: colour for name, (where, colour) in found.items() if where.any()})


def heat_map_of(report: Report) -> bytes:
    """|delta| by depth and step."""
    return heat_map([record.step for record in report.sample], deltas_of(report))


def deltas_of(report: Report) -> list[dict[str, float]]:
    """|delta| by layer at each step of a report's sample."""
    return [line_of([record]) for record in report.sample]


def time_maps_of(report: Report) -> dict[str, bytes]:
    """|dL/dh_t| by time and step, for each layer with a state: at the times of the first sequences that were read."""
    records = [record for record in report.sample if record.through_time]
    layers = dict.fromkeys(layer for record in records for layer in record.through_time)
    short = short_names(layers)
    found = {}
    for layer in layers:
        own = [record for record in records if layer in record.through_time]
        times = list(own[0].through_time[layer])
        columns = [
            {f"t = {t}": norms[t] for t in times if t in (norms := record.through_time[layer])} for record in own
        ]
        title = f"The gradient through time, {short[layer]}"
        found[layer] = heat_map([record.step for record in own], columns, title, _STATE, ("time step", "t = 1"))
    return found


def heat_map(
    steps: Sequence[int],
    columns: Sequence[Mapping[str, float]],
    title: str = "The gradient that reaches each layer",
    measure: str = _DELTA,
    axis: tuple[str, str] = ("layer", "the first of {}"),
) -> bytes:
    """A PNG of a gradient's log10: a row a layer (or a time), the first lowest, a column a step, all of one width.

    Args:
        steps: Numbers of the steps, at most 256.
        columns: The gradient's norm at each of them, by the full names of the layers, in the order of the forward pass.
        title: Above the picture.
        measure: What is drawn, beside the scale.
        axis: What the rows are, and which of them is lowest; ``{}`` becomes their number.

    Raises:
        ValueError: there is no row, or not a number for each column.
    """
    rows, colours, kinds = cells(columns)
    if len(steps) != len(columns):
        raise ValueError(f"{len(steps)} steps for {len(columns)} columns")
    canvas = Canvas(WIDTH, min(max(19 * len(rows) + 160, 470), 620), 1)
    places, names = layer_ticks(rows, 20)
    left, top, right, bottom = 58 + max(map(width_of, names)), 46, WIDTH - 132, canvas.height - 112
    row, column = (bottom - top) / len(rows), (right - left) / len(steps)
    canvas.text(10, 22, title, size=22)
    canvas.text(
        18, (top + bottom) / 2, f"{axis[0]}, {axis[1].format(len(rows))} at the bottom", "mm", size=17, angle=90
    )
    canvas.box(left, top, right, bottom, _MISSING, None)
    canvas.cells(colours[::-1], left, top, right, bottom)
    for place, name in zip(places, names, strict=True):
        canvas.text(left - 12, bottom - (place + 0.5) * row, name, "rm")
        canvas.line([(left - 6, bottom - (place + 0.5) * row), (left, bottom - (place + 0.5) * row)], "black")
    for place in spread(len(steps), 5):
        canvas.text(left + (place + 0.5) * column, bottom + 20, f"{steps[place]:,}", "mm")
        canvas.line([(left + (place + 0.5) * column, bottom), (left + (place + 0.5) * column, bottom + 6)], "black")
    is_even = len(set(np.diff(steps).tolist())) <= 1
    label = "optimizer step" if is_even else "optimizer step (a column for each measured)"
    canvas.text((left + right) / 2, bottom + 48, label, "mm")
    _draw_scale(canvas, right + 18, top, bottom, measure)
    _draw_kinds(canvas, kinds)
    return canvas.png()


def side_by_side(
    runs: Mapping[str, tuple[Sequence[int], Sequence[Mapping[str, float]]]], measure: str = _DELTA
) -> bytes:
    """A PNG of the heat maps of several runs, on the one scale: six in a row.

    Args:
        runs: For each name the steps, and |delta| at each of them by layer, in the order of the forward pass.
        measure: What is drawn.

    Raises:
        ValueError: there is no run, or one without a layer.
    """
    if not runs:
        raise ValueError("there is no run to draw")
    lines = math.ceil(len(runs) / _PANELS)
    across = min(len(runs), _PANELS)
    width, height, head = 190, 250, 76
    canvas = Canvas(max(70 + across * (width + 20) + 110, 780), 46 + lines * (height + head) + 50, 1)
    canvas.text(10, 22, f"The gradient that reaches each layer, {measure}, all on one scale", size=22)
    found: dict[str, str] = {}
    for index, (name, (steps, columns)) in enumerate(runs.items()):
        rows, colours, kinds = cells(columns)
        found |= kinds
        left = 70 + (index % _PANELS) * (width + 20)
        top = 76 + (index // _PANELS) * (height + head)
        canvas.text(left, top - 14, _fitted(name, width), size=17)
        canvas.box(left, top, left + width, top + height, _MISSING, None)
        canvas.cells(colours[::-1], left, top, left + width, top + height)
        canvas.text(left, top + height + 16, f"{steps[0]:,}", size=17)
        canvas.text(left + width, top + height + 16, f"{steps[-1]:,}", "rm", size=17)
        if index % _PANELS == 0:
            for layer, anchor in ((1, "rb"), (len(rows), "rt")):
                canvas.text(left - 8, top + height if layer == 1 else top, str(layer), anchor, size=17)
            canvas.text(20, top + height / 2, "layer, from the input", "mm", angle=90)
    canvas.text(70 + across * (width + 20) / 2, canvas.height - 54, "optimizer step", "mm")
    _draw_scale(canvas, 70 + across * (width + 20), 76, 76 + height)
    _draw_kinds(canvas, found)
    return canvas.png()


def _fitted(name: str, width: float, size: int = 17) -> str:
    while width_of(name, size) > width:
        name = name[:-2] + "…"
    return name


def _draw_scale(canvas: Canvas, left: float, top: float, bottom: float, measure: str = "") -> None:
    """The scale, which is always the same, and that it is."""
    canvas.cells(mpl.colormaps["cividis"](np.linspace(1, 0, 256), bytes=True)[:, None], left, top, left + 22, bottom)
    for decade in range(LOWEST, HIGHEST + 1, 3):
        y = bottom - (decade - LOWEST) / (HIGHEST - LOWEST) * (bottom - top)
        canvas.line([(left + 22, y), (left + 28, y)], "black")
        canvas.text(left + 32, y, f"1e{decade}" if decade else "1", size=17)
    if measure:
        canvas.text(left + 100, (top + bottom) / 2, f"{measure}, {_SCALE}", "mm", size=17, angle=90)


def _draw_kinds(canvas: Canvas, kinds: Mapping[str, str]) -> None:
    """What the colours mean that are none of the scale."""
    x = float(canvas.width - 10)
    for name, colour in reversed([*kinds.items()]):
        x -= width_of(name)
        canvas.text(x, canvas.height - 20, name)
        canvas.box(x - 36, canvas.height - 28, x - 8, canvas.height - 12, colour)
        x -= 60
