"""One picture of a comparison: |delta| by depth, |dL/dh_t| by time where there is any, and learning curves."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unvanish.command.compare_table import Comparison, Row
from unvanish.gradients.draw import COLOURS, MARKERS

#: Told apart by line and marker as well as by colour, so that print shows it.
_STYLES = [
    {"color": colour, "marker": marker, "linestyle": line}
    for line in ("-", "--", ":")
    for colour, marker in zip(COLOURS, MARKERS, strict=True)
]


class _Curves(NamedTuple):
    """A variant's numbers: medians over its seeds, by layer or time step."""

    row: Row
    deltas: list[float]
    through_time: dict[int, float]


def figure(comparison: Comparison, folder: Path) -> bytes | None:
    """A PNG of all variants that have finished a run; None where there is none.

    Args:
        comparison: What is drawn.
        folder: Where its runs are kept, with the gradient report of each.
    """
    curves = [_read(row, folder) for row in comparison.rows if row.finished]
    if not curves:
        return None
    panels: list[Callable[[Axes], None]] = [lambda axes: _draw_depth(axes, curves)]
    if any(curve.through_time for curve in curves):
        panels.append(lambda axes: _draw_time(axes, curves))
    panels.append(lambda axes: _draw_learning(axes, curves, comparison))
    picture = Figure(figsize=(5 * len(panels), 4.6), dpi=140, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    for axes, draw in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = picture.axes[-1].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=8)
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png")
    return buffer.getvalue()


def _read(row: Row, folder: Path) -> _Curves:
    layers: dict[str, list[float]] = {}
    times: dict[int, list[float]] = {}
    for result in row.finished:
        path = folder / row.variant / f"seed{result.seed}" / "gradient_report.json"
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for layer in report.get("layers", []):
            if "delta_norm" in layer:
                layers.setdefault(layer["name"], []).append(float(layer["delta_norm"]["start"]))
        for norms in list(report.get("through_time", {}).get("start", {}).values())[:1]:
            for t, norm in norms.items():
                times.setdefault(int(t), []).append(float(norm))
    return _Curves(row, [*map(median, layers.values())], {t: median(norms) for t, norms in sorted(times.items())})


def _plot(axes: Axes, label: str, style: dict[str, str], x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, **style, markersize=4 if len(x) <= 60 else 0, linewidth=1.4, label=label)  # type: ignore[arg-type]


def _plot_norms(axes: Axes, label: str, style: dict[str, str], norms: Mapping[int, float]) -> None:
    """On a logarithmic axis; what is exactly 0 lies on its lower edge, hollow."""
    _plot(axes, label, style, [*norms], [norm if 0 < norm < math.inf else math.nan for norm in norms.values()])
    zeros = [place for place, norm in norms.items() if norm == 0]
    edge = axes.get_xaxis_transform()
    axes.plot(zeros, [0.0] * len(zeros), "v", color=style["color"], fillstyle="none", transform=edge, clip_on=False)


def _draw_depth(axes: Axes, curves: Sequence[_Curves]) -> None:
    for curve, style in zip(curves, cycle(_STYLES), strict=False):
        _plot_norms(axes, curve.row.variant, style, dict(enumerate(curve.deltas, 1)))
    axes.set(yscale="log", xlabel="layer, from the input", title="The gradient by layer, first steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(r"$|\delta|$ = $|\partial L/\partial z|$ (L2 norm)")


def _draw_time(axes: Axes, curves: Sequence[_Curves]) -> None:
    for curve, style in zip(curves, cycle(_STYLES), strict=False):
        _plot_norms(axes, curve.row.variant, style, curve.through_time)
    axes.set(yscale="log", xlabel="time step t", title="The gradient by time step, first steps")
    axes.set_ylabel(r"$|\partial L/\partial h_t|$ (L2 norm)")


def _draw_learning(axes: Axes, curves: Sequence[_Curves], comparison: Comparison) -> None:
    """The mean over the seeds, and the range of them."""
    metric = comparison.objective.metric
    for curve, style in zip(curves, cycle(_STYLES), strict=False):
        points: dict[float, list[float]] = {}
        for result in curve.row.finished:
            for point in result.curve:
                points.setdefault(point["step"], []).append(point.get(f"val/{metric}", math.nan))
        _plot(axes, curve.row.variant, style, [*points], [*map(mean, points.values())])
        low, high = [*map(min, points.values())], [*map(max, points.values())]
        axes.fill_between([*points], low, high, color=style["color"], alpha=0.15, linewidth=0)
    if comparison.target is not None:
        axes.axhline(comparison.target, color="black", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="optimizer step", ylabel=f"validation {metric}", title="Learning curves")
