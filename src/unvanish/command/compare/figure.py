"""One picture of a comparison: |delta| by depth, |dL/dh_t| by time where there is any, and learning curves."""

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unvanish.command.compare.comparison import Comparison, Kept
from unvanish.gradients.show.pictures import COLOURS

_MARKERS = "osD^vP"
#: The few layers of a recurrent network are not worth a panel beside its time steps.
_SHALLOW = 3
#: More curves than these cannot be told apart: a grid then has a row of panels for each variant.
_TOGETHER = 12
_LEGEND_ROWS = 24
_LINES = ("-", "--", ":", "-.", (0, (1, 3)))


class _Curves(NamedTuple):
    """A variant's name and look, and its medians over seeds: by layer, and at the start and the end by time t / T."""

    runs: list[Kept]
    style: dict[str, Any]
    deltas: list[float]
    through_time: dict[str, dict[float, float]]


def figure(comparison: Comparison) -> bytes | None:
    """A PNG of all variants that have finished a run; None where there is none."""
    finished = {name: runs for name in comparison.variants if (runs := comparison.finished(name))}
    groups: dict[str, list[_Curves]] = {}
    for runs, (name, style) in zip(finished.values(), _looks([*finished]), strict=True):
        groups.setdefault(name, []).append(_read(runs, style))
    curves = [*chain.from_iterable(groups.values())]
    if not curves:
        return None
    moments = [moment for moment in ("start", "end") if any(moment in curve.through_time for curve in curves)]
    panels: list[Callable[[Sequence[_Curves], Axes], None]] = [partial(_draw_time, moment) for moment in moments]
    if not panels or max(len(curve.deltas) for curve in curves) > _SHALLOW:
        panels.insert(0, _draw_depth)
    panels.append(partial(_draw_learning, comparison))
    labels = {curve.style["label"] for curve in curves}
    legend_columns = math.ceil(len(labels) / _LEGEND_ROWS)
    legend_width = legend_columns * (0.8 + 0.065 * max(map(len, labels)))
    size = 5 * len(panels) + legend_width, 4.6 if len(groups) == 1 else 3 * len(groups)
    picture = Figure(figsize=size, dpi=140, layout="constrained", facecolor="white")  # which pyplot does not know of
    FigureCanvasAgg(picture)
    lines = picture.subplots(len(groups), len(panels), squeeze=False, sharex="col", sharey="col")
    for (name, group), line in zip(groups.items(), lines, strict=True):
        for axes, draw in zip(line, panels, strict=True):
            draw(group, axes)
            axes.set_title(f"{name}: {axes.get_title()}" if name else axes.get_title())
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in lines[:-1].flat:
        axes.set_xlabel("")  # it is that of the last row
    handles = {handle.get_label(): handle for axes in picture.axes for handle in axes.get_legend_handles_labels()[0]}
    picture.legend(
        handles=[*handles.values()],
        loc="outside right upper",
        ncols=legend_columns,
        frameon=False,
        fontsize=8,
        handlelength=4,
    )
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png")
    return buffer.getvalue()


def _looks(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The row of panels that a variant is drawn in, and its label, colour, marker and line, told apart in print too.

    In a grid the variants have a colour each and its points a line each; or, in rows of their own, its points a colour.
    """
    parts = [name.partition(",")[::2] for name in names]
    heads, tails = (list(dict.fromkeys(part[i] for part in parts)) for i in (0, 1))
    if min(len(heads), len(tails)) == 1:
        looks = [("", name, index, index // len(COLOURS)) for index, name in enumerate(names)]
    elif len(names) <= _TOGETHER and len(tails) <= len(_LINES):
        looks = [
            ("", name, heads.index(head), tails.index(tail)) for name, (head, tail) in zip(names, parts, strict=True)
        ]
    else:
        looks = [(head, tail, tails.index(tail), tails.index(tail) // len(COLOURS)) for head, tail in parts]
    return [
        (
            group,
            {
                "label": label,
                "color": COLOURS[colour % len(COLOURS)],
                "marker": _MARKERS[colour % len(_MARKERS)],
                "linestyle": _LINES[line % len(_LINES)],
            },
        )
        for group, label, colour, line in looks
    ]


def _read(runs: list[Kept], style: dict[str, Any]) -> _Curves:
    layers: dict[str, list[float]] = {}
    times: dict[str, dict[int, list[float]]] = {}
    for one in runs:
        path = one.run.folder / "gradient_report.json"
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for layer in report.get("layers", []):
            if "start" in layer.get("delta_norm", {}):
                layers.setdefault(layer["name"], []).append(float(layer["delta_norm"]["start"]))
        for moment, norms_by_layer in report.get("through_time", {}).items():
            for t, norm in next(iter(norms_by_layer.values())).items():
                times.setdefault(moment, {}).setdefault(int(t), []).append(float(norm))
    through_time = {
        moment: {t / max(found): _median(norms) for t, norms in sorted(found.items())}
        for moment, found in times.items()
    }
    return _Curves(runs, style, [*map(_median, layers.values())], through_time)


def _plot(axes: Axes, style: dict[str, Any], x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, **style, markersize=max(0, 4 - len(x) // 25), linewidth=1.4)


def _plot_norms(axes: Axes, style: dict[str, Any], norms: Mapping[float, float]) -> None:
    """On a logarithmic axis; what is exactly 0 lies on its lower edge, hollow, what is no number on its upper one."""
    _plot(axes, style, [*norms], [norm if 0 < norm < math.inf else math.nan for norm in norms.values()])
    zeros = [place for place, norm in norms.items() if norm == 0]
    broken = [place for place, norm in norms.items() if not math.isfinite(norm)]
    for places, height, marker in ((zeros, 0.015, "v"), (broken, 0.985, "x")):
        heights, colour, transform = [height] * len(places), style["color"], axes.get_xaxis_transform()
        axes.plot(places, heights, marker, color=colour, fillstyle="none", transform=transform)


def _note(curves: Iterable[Iterable[float]]) -> str:
    """What explains the marks at the edges in a title."""
    norms = [*chain.from_iterable(curves)]
    zeros = ", ▽ exactly 0" if 0 in norms else ""
    return zeros + ("" if all(map(math.isfinite, norms)) else ", x NaN or infinite")


def _draw_depth(curves: Sequence[_Curves], axes: Axes) -> None:
    for curve in curves:
        _plot_norms(axes, curve.style, dict(enumerate(curve.deltas, 1)))
    zeros = _note(curve.deltas for curve in curves)
    axes.set(yscale="log", xlabel="layer, from the input", title=f"The gradient by layer, first steps{zeros}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(r"$|\delta|$ = $|\partial L/\partial z|$ (L2 norm)")


def _draw_time(moment: str, curves: Sequence[_Curves], axes: Axes) -> None:
    norms = [curve.through_time.get(moment, {}) for curve in curves]
    for curve, by_time in zip(curves, norms, strict=True):
        _plot_norms(axes, curve.style, by_time)
    steps = {"start": "tenth step", "end": "last step measured"}[moment] + _note(by_time.values() for by_time in norms)
    axes.set(yscale="log", xlabel="time t / T", title=f"The gradient by time, {steps}")
    axes.set_ylabel(r"$|\partial L/\partial h_t|$ (L2 norm; of an LSTM with its cell)")


def _draw_learning(comparison: Comparison, curves: Sequence[_Curves], axes: Axes) -> None:
    """The mean over the seeds, and the range of them, as far as all of them have come."""
    metric = comparison.objective.metric
    for curve in curves:
        points: dict[float, list[float]] = {}
        for one in curve.runs:
            for point in one.result.curve:
                points.setdefault(point["step"], []).append(point.get(f"val/{metric}", math.nan))
        of_all = {step: values for step, values in points.items() if len(values) == len(curve.runs)}
        values = np.reshape([*of_all.values()], (len(of_all), len(curve.runs)))
        _plot(axes, curve.style, [*of_all], values.mean(axis=1))
        low, high = values.min(axis=1), values.max(axis=1)
        axes.fill_between([*of_all], low, high, color=curve.style["color"], alpha=0.15, linewidth=0)
    if comparison.target is not None:
        axes.axhline(comparison.target, color="black", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="optimizer step", ylabel=f"validation {metric}", title="Learning curves")


def _median(values: list[float]) -> float:
    """NaN where one is."""
    return float(np.median(values))
