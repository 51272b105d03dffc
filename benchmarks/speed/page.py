"""benchmarks/RESULTS.md, from what each part has measured last."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import torch

from benchmarks.speed.row import Row

KEPT = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "RESULTS.md"
_HEAD = """# Speed, beside what a user would run instead

Written by `make bench` (`python -m benchmarks.speed [PART ...]`; a part is a file of benchmarks/speed). A ratio is our
time over the peer's. Both are measured in one run on one machine, in turns; it is the median of the rounds, with the
least and the most of them, and less is better. No test asserts a time. What each change brought, and what did not help:
[speed/NOTES.md](speed/NOTES.md).
"""


def machine() -> str:
    """Where and with what a part was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, lightning {lightning.__version__}"
    return f"{platform.machine()}, {device}, {torch.get_num_threads()} threads, {versions}"


def keep(part: str, rows: Sequence[Row]) -> None:
    """Keep what a part has measured, and write the page anew from all parts."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    kept[part] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "rows": [row.plain() for row in rows],
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(kept), encoding="utf-8")


def page(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, one table a part."""
    return "\n".join([_HEAD, *(line for part in kept for line in _table(part, kept[part])), ""])


def _table(part: str, measured: Mapping[str, Any]) -> list[str]:
    rows = [Row(**row) for row in measured["rows"]]
    return [
        f"## {part}",
        "",
        f"`python -m benchmarks.speed {part}`, {measured['date']}; {measured['machine']}.",
        "",
        "| work | ours | peer | peer's | ratio | target | |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
    ]


def _line(row: Row) -> str:
    ratios = row.ratios
    ours, ratio, theirs = f"{median(row.ours):.3g} {row.unit}", "", ""
    if row.theirs:
        theirs = f"{median(row.theirs):.3g}"
        ratio = f"{median(ratios):.3g} [{ratios[0]:.3g}, {ratios[-1]:.3g}]"
    target = f"{row.target:g}{'' if row.is_reached else ', missed'}" if row.target else ""
    return f"| {row.work} | {ours} | {row.peer} | {theirs} | {ratio} | {target} | {row.note} |"
