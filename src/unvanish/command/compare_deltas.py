"""Keeps |delta| by layer and step of a comparison's run, for the picture of all of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unvanish.gradients import Report
from unvanish.gradients.judge.report import json_number
from unvanish.gradients.show.heat_map import deltas_of

DELTAS = "deltas.json"
_COLUMNS = 64


def keep_deltas(report: Report, folder: Path) -> None:
    """Write |delta| at evenly spaced steps to a run's folder; nothing where there is none."""
    if not report.has_deltas:
        return
    pairs = list(zip((record.step for record in report.sample), deltas_of(report), strict=True))
    chosen = {round(k * (len(pairs) - 1) / (_COLUMNS - 1)) for k in range(_COLUMNS)}
    steps, deltas = zip(*(pairs[index] for index in sorted(chosen)), strict=True)
    columns = [{layer: json_number(value) for layer, value in column.items()} for column in deltas]
    text = json.dumps({"steps": steps, "delta_norm": columns}, allow_nan=False)
    (folder / DELTAS).write_text(text + "\n", encoding="utf-8")


def kept_deltas(folder: Path) -> tuple[Sequence[int], Sequence[Mapping[str, float]]] | None:
    """The steps, and |delta| by layer at each of them; None where a run has kept none."""
    path = folder / DELTAS
    if not path.is_file():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept["steps"], [{layer: float(value) for layer, value in column.items()} for column in kept["delta_norm"]]
