"""One page of all runs of a comparison, from the pages that they have left."""

from pathlib import Path
from typing import Any

import numpy as np

from unvanish import page
from unvanish.command.compare_run import Result
from unvanish.command.compare_table import Comparison
from unvanish.page.matrix import thinned

#: Numbers of a quantity in all runs together.
ROOM = 100_000


def write_page(comparison: Comparison, folder: Path) -> bool:
    """Write report.html; False where no run has left a page."""
    runs: list[dict[str, Any]] = []
    for row in comparison.rows:
        for result in row.finished:
            path = folder / result.variant / f"seed{result.seed}" / page.REPORT
            if path.is_file():
                runs += [run | {"name": _name(result), "score": _score(result, comparison)} for run in page.read(path)]
    if not runs:
        return False
    most = max(len(run["layers"]) for run in runs)
    columns = max(2, ROOM // (most * len(runs)))
    for run in runs:
        for group in ("quantities", "times"):
            run[group] = {name: thinned(matrix, columns) for name, matrix in run[group].items()}
    page.write(folder / page.REPORT, runs, folder.name)
    return True


def _name(result: Result) -> str:
    return f"{result.variant}/seed{result.seed}"


def _score(result: Result, comparison: Comparison) -> dict[str, Any] | None:
    """The first of the splits that there are."""
    for split, value in result.scores.items():
        return {"name": f"{split} {comparison.objective.metric}", "value": value} if np.isfinite(value) else None
    return None
