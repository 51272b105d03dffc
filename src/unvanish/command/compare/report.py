"""One page of all runs of a comparison, from the pages that they have left, and the map of their gradients."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unvanish import page
from unvanish.command.compare.comparison import Comparison, Kept
from unvanish.gradients.show.heat_map import side_by_side
from unvanish.page.matrix import thinned, unpacked

#: Numbers of a quantity in all runs together.
ROOM = 100_000
#: Steps of a map.
_COLUMNS = 64


def write_page(comparison: Comparison) -> bool:
    """Write report.html; False where no run has left a page."""
    if runs := _runs(comparison):
        page.write(comparison.folder / page.REPORT, runs, comparison.folder.name)
    return bool(runs)


def shown(comparison: Comparison) -> str:
    """The same as a part of another page; empty where no run has left one."""
    runs = _runs(comparison)
    return page.framed(runs) if runs else ""


def map_of(comparison: Comparison) -> bytes | None:
    """A PNG of |delta| by layer and step, of each variant's first run that has kept it; None where none has."""
    found = {}
    for name in comparison.variants:
        deltas = (run["quantities"].get("delta") for one in comparison.finished(name) for run in _page(one))
        if delta := next(filter(None, deltas), None):
            found[name] = _columns(thinned(delta, _COLUMNS))
    return side_by_side(found, "root mean square of δ = ∂L/∂z") if found else None


def _columns(delta: Mapping[str, Any]) -> tuple[list[int], list[dict[str, float]]]:
    rows = unpacked(delta)
    return delta["steps"], [
        {layer: 10 ** row[step] for layer, row in rows.items() if step in row} for step in delta["steps"]
    ]


def _runs(comparison: Comparison) -> list[dict[str, Any]]:
    ones = [one for name in comparison.variants for one in comparison.finished(name)]
    runs = [run | {"name": _name(one), "score": _score(one)} for one in ones for run in _page(one)]
    if not runs:
        return []
    most = max(len(run["layers"]) for run in runs)
    columns = max(2, ROOM // (max(most, 1) * len(runs)))
    for run in runs:
        for group in ("quantities", "times"):
            run[group] = {name: thinned(matrix, columns) for name, matrix in run[group].items()}
    return runs


def _page(one: Kept) -> list[dict[str, Any]]:
    path = one.run.folder / page.REPORT
    return page.read(path) if path.is_file() else []


def _name(one: Kept) -> str:
    return f"{one.run.variant}/seed{one.run.seed}"


def _score(one: Kept) -> dict[str, Any] | None:
    """The first of the splits that there are."""
    for split, value in (("test", one.result.test), ("validation", one.result.validation)):
        if np.isfinite(value):
            return {"name": f"{split} {one.result.metric}", "value": value}
    return None
