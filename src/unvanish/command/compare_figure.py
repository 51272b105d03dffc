"""One picture of a comparison: |delta| by depth, |dL/dh_t| by time where there is any, and learning curves."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from unvanish.command.compare_table import Comparison, Row
from unvanish.gradients.draw import COLOURS, MARKERS, as_png, new_figure

#: The few layers of a recurrent network are not worth a panel beside its time steps.
_SHALLOW = 3
_LEGEND_ROWS = 24
_LINES = ("-", "--", ":", "-.", (0, (1, 3)))


class _Curves(NamedTuple):
    """A variant's look and its medians over seeds: by layer, and at the start and the end by time t / T."""

    row: Row
    style: dict[str, Any]
    deltas: list[float]
    through_time: dict[str, dict[float, float]]


def figure(comparison: Comparison, folder: Path) -> bytes | None:
    """A PNG of all variants that have finished a run; None where there is none.

    Args:
        comparison: What is drawn.
        folder: Where its runs are kept, with the gradient report of each.
    """
    rows = [row for row in comparison.rows if row.finished]
    styles = _styles([row.variant for row in rows])
    curves = [_read(row, style, folder) for row, style in zip(rows, styles, strict=True)]
    if not curves:
        return None
    moments = [moment for moment in ("start", "end") if any(moment in curve.through_time for curve in curves)]
    panels: list[Callable[[Axes], None]] = [partial(_draw_time, curves, moment) for moment in moments]
    if not panels or max(len(curve.deltas) for curve in curves) > _SHALLOW:
        panels.insert(0, partial(_draw_depth, curves))
    panels.append(partial(_draw_learning, curves, comparison))
    legend_columns = math.ceil(len(rows) / _LEGEND_ROWS)
    legend_width = legend_columns * (0.8 + 0.065 * max(len(row.variant) for row in rows))
    picture = new_figure(4.6, 5 * len(panels) + legend_width)
    for axes, draw in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = picture.axes[-1].get_legend_handles_labels()
    picture.legend(
        handles, labels, loc="outside right upper", ncols=legend_columns, frameon=False, fontsize=8, handlelength=4
    )
    return as_png(picture)


def _styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Colours, markers and lines, told apart in print as well: in a grid variants by colour, its points by line."""
    heads, tails = (list(dict.fromkeys(name.partition(",")[i] for name in names)) for i in (0, 2))
    if len(heads) == 1 or len(tails) == 1:
        places = [(index, index // len(COLOURS)) for index in range(len(names))]
    else:
        places = [(heads.index(head), tails.index(tail)) for head, _, tail in (name.partition(",") for name in names)]
    return [
        {
            "color": COLOURS[colour % len(COLOURS)],
            "marker": MARKERS[colour % len(MARKERS)],
            "linestyle": _LINES[line % len(_LINES)],
        }
        for colour, line in places
    ]


def _read(row: Row, style: dict[str, Any], folder: Path) -> _Curves:
    layers: dict[str, list[float]] = {}
    times: dict[str, dict[int, list[float]]] = {}
    for result in row.finished:
        path = folder / row.variant / f"seed{result.seed}" / "gradient_report.json"
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for layer in report.get("layers", []):
            if "delta_norm" in layer:
                layers.setdefault(layer["name"], []).append(float(layer["delta_norm"]["start"]))
        for moment, norms_by_layer in report.get("through_time", {}).items():
            for t, norm in next(iter(norms_by_layer.values())).items():
                times.setdefault(moment, {}).setdefault(int(t), []).append(float(norm))
    through_time = {
        moment: {t / max(found): median(norms) for t, norms in sorted(found.items())} for moment, found in times.items()
    }
    return _Curves(row, style, [*map(median, layers.values())], through_time)


def _plot(axes: Axes, label: str, style: dict[str, Any], x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, **style, markersize=max(0, 4 - len(x) // 25), linewidth=1.4, label=label)


def _plot_norms(axes: Axes, label: str, style: dict[str, Any], norms: Mapping[float, float]) -> None:
    """On a logarithmic axis; what is exactly 0 lies on its lower edge, hollow."""
    _plot(axes, label, style, [*norms], [norm if 0 < norm < math.inf else math.nan for norm in norms.values()])
    zeros = [place for place, norm in norms.items() if norm == 0]
    height = [0.015] * len(zeros)
    axes.plot(zeros, height, "v", color=style["color"], fillstyle="none", transform=axes.get_xaxis_transform())


def _draw_depth(curves: Sequence[_Curves], axes: Axes) -> None:
    for curve in curves:
        _plot_norms(axes, curve.row.variant, curve.style, dict(enumerate(curve.deltas, 1)))
    zeros = ", ▽ exactly 0" if any(0 in curve.deltas for curve in curves) else ""
    axes.set(yscale="log", xlabel="layer, from the input", title=f"The gradient by layer, first steps{zeros}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(r"$|\delta|$ = $|\partial L/\partial z|$ (L2 norm)")


def _draw_time(curves: Sequence[_Curves], moment: str, axes: Axes) -> None:
    for curve in curves:
        _plot_norms(axes, curve.row.variant, curve.style, curve.through_time.get(moment, {}))
    steps = {"start": "first steps", "end": "last steps"}[moment]
    axes.set(yscale="log", xlabel="time t / T", title=f"The gradient by time, {steps}")
    axes.set_ylabel(r"$|\partial L/\partial h_t|$ (L2 norm)")


def _draw_learning(curves: Sequence[_Curves], comparison: Comparison, axes: Axes) -> None:
    """The mean over the seeds, and the range of them."""
    metric = comparison.objective.metric
    for curve in curves:
        points: dict[float, list[float]] = {}
        for result in curve.row.finished:
            for point in result.curve:
                points.setdefault(point["step"], []).append(point.get(f"val/{metric}", math.nan))
        _plot(axes, curve.row.variant, curve.style, [*points], [*map(mean, points.values())])
        low, high = [*map(min, points.values())], [*map(max, points.values())]
        axes.fill_between([*points], low, high, color=curve.style["color"], alpha=0.15, linewidth=0)
    if comparison.target is not None:
        axes.axhline(comparison.target, color="black", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="optimizer step", ylabel=f"validation {metric}", title="Learning curves")
