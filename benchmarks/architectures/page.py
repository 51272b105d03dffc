"""The page that the table is summed up on."""

import datetime
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.architectures.check import CHECKS, LEARNING_RATE, RELATIVE, STEPS

Row = Mapping[str, Any]


def page(rows: Sequence[Row], wanted: int, versions: Iterable[str], command: str) -> str:
    """All counts, and every miss by name; of how many networks that were ``wanted``."""
    rows = sorted(rows, key=lambda row: (row["source"], row["name"]))
    run = [row for row in rows if "not_run" not in row]
    by_source = {source: [row for row in rows if row["source"] == source] for source in {r["source"]: 0 for r in rows}}
    lines = [
        "# Networks that others wrote, and the recorder",
        "",
        f"Each with random weights, {STEPS} steps of SGD with learning rate {LEARNING_RATE:g} on one random batch in",
        "train mode, once with the recorder and once without. The loss is the network's own, else the cross-entropy of",
        f"its scores, else the mean square of all that it returns. Numbers agree within {RELATIVE:g}.",
        *([] if len(rows) == wanted else ["", f"The run was stopped at {len(rows):,} of {wanted:,} networks."]),
        "",
        _row("library", "networks", "run", "not run", *CHECKS),
        "|" + "---|" * (4 + len(CHECKS)),
        *(_row(source, *_counts(found)) for source, found in by_source.items()),
        _row("all", *_counts(rows)),
        "",
        *(f"- {check}: {meaning}" for check, meaning in CHECKS.items()),
        "",
        "In the first step {gradients} |dL/dW| and {deltas} |delta| were recorded, of {layers} layers.".format(
            **{key: sum(row.get(key, 0) for row in run) for key in ("gradients", "deltas", "layers")}
        ),
        "",
        "## Verdicts of the first step",
        "",
        *(f"- {status}: {count}" for status, count in Counter(row.get("verdict", "none") for row in run).most_common()),
    ]
    for check in CHECKS:
        missed = [(row, finding) for row in run for finding in row["findings"].get(check, ())]
        if missed:
            lines += ["", f"## {check}: {len({id(row) for row, _ in missed})} networks", ""]
            lines += [f"- {row['name']} ({row['source']}): {finding}" for row, finding in missed]
    if random := [f"{row['name']} ({row['source']})" for row in run if row.get("is_random")]:
        lines += ["", f"## Not trained twice alike without the recorder either: {len(random)} networks", ""]
        lines += [f"- {', '.join(random)}: whether they are identical with it cannot be told"]
    lines += ["", f"## Not run: {len(rows) - len(run)} networks", ""]
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if "not_run" in row:
            reasons[row["not_run"]].append(f"{row['name']} ({row['source']})")
    lines += [f"- {', '.join(names)}: {reason}" for reason, names in sorted(reasons.items(), key=lambda x: -len(x[1]))]
    python = f"Python {platform.python_version()}"
    lines += ["", f"{datetime.date.today()}, {python}, torch {torch.__version__}, {', '.join(versions)}; `{command}`."]
    return "\n".join(lines) + "\n"


def _counts(rows: Sequence[Row]) -> list[str]:
    run = [row for row in rows if "not_run" not in row]
    passed = [sum(not row["findings"].get(check) and _is_checked(check, row) for row in run) for check in CHECKS]
    return [str(len(rows)), str(len(run)), str(len(rows) - len(run)), *map(str, passed)]


def _is_checked(check: str, row: Row) -> bool:
    """Where the recorder raised, nothing else is known; nor what chance did where there is some."""
    return check == "runs" or not ("runs" in row["findings"] or (check == "identical" and row["is_random"]))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
