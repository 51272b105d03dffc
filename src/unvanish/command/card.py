"""The model card of an export: what it is, what it was trained on, and what it is worth."""

import json
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import unvanish
from unvanish.command import data_files
from unvanish.command.experiment import Built, Experiment
from unvanish.command.scores import class_rows, metric_rows, warnings_of
from unvanish.training import Scores

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy")


class Exported(NamedTuple):
    """An exported file whose outputs were compared with the network's.

    Args:
        path: The file.
        sha256: SHA-256 of its content.
        rows: Number of samples on which both were evaluated.
        difference: The largest difference between their outputs, relative to the largest output.
    """

    path: Path
    sha256: str
    rows: int
    difference: float


def model_card(
    experiment: Experiment, built: Built, run: Path, checkpoint: Path, scores: Scores, split: str, exported: Exported
) -> str:
    """The model card, in Markdown."""
    model, data = built.model, built.data
    parts = [
        f"# {experiment.recipe.name}, {type(model).__name__}",
        "",
        *_table(
            ("file", f"`{exported.path.name}`, SHA-256 {exported.sha256}"),
            (
                "held against the network",
                f"{exported.rows} rows, batches of 1 to {exported.rows}: "
                f"equal to {exported.difference:.1e} of the largest answer",
            ),
            ("checkpoint", f"`{checkpoint}`"),
            ("task", model.settings.task),
            (
                "input",
                f"(batch, {', '.join(map(str, getattr(data, 'input_shape', ())))}), encoded as `encoding.json` says",
            ),
            ("output", _output(model.settings.task, data)),
            ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
            ("verdict on its gradients", _verdict(run)),
            (
                "versions",
                ", ".join(
                    [
                        f"unvanish {unvanish.__version__}",
                        f"Python {platform.python_version()}",
                        *(f"{name} {version(name)}" for name in _PACKAGES),
                    ]
                ),
            ),
        ),
        "",
        "## Data",
        "",
        *_table(*_data(run, built)),
        "",
        f"## Scores on the {split} split",
        "",
        *_table(*metric_rows(scores, scores.values), has_head=True),
        *(f"\n{line.capitalize()}." for line in warnings_of(scores, model.settings.task, _names(data))),
        *(["", *_table(*class_rows(scores, _names(data)), has_head=True)] if scores.confusion else []),
        "",
        "## Recipe",
        "",
        "```yaml",
        experiment.resolved().rstrip(),
        "```",
        "",
    ]
    return "\n".join(parts)


def _names(data: Any) -> list[str] | None:
    return getattr(data, "class_names", None)


def _output(task: str, data: Any) -> str:
    if task == "regression":
        what = "changes from the last row of the window" if getattr(data, "relative", False) else "numbers"
        return f"{what} in their own units: {', '.join(getattr(data, 'target_names', None) or ['targets'])}"
    names = _names(data) or []
    listed = f": {', '.join(names[:20])}{', ...' * (len(names) > 20)}" if names else ""
    return f"the probability of {names[1]!r}" if task == "binary" and len(names) == 2 else f"probabilities{listed}"


def _verdict(run: Path) -> str:
    try:
        return str(json.loads((run / "gradient_report.json").read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError):
        return "not recorded"


def _data(run: Path, built: Built) -> Iterator[tuple[str, str]]:
    splits = getattr(built.data, "splits", None)
    if (known := data_files.recorded(run)) is not None:
        yield "file", f"`{known['path']}`, {known['size']:,} bytes, SHA-256 {known['sha256']}"
        if known["columns"]:
            yield "columns", ", ".join(f"`{name}`" for name in known["columns"])
    else:
        yield "data", repr(built.data)
    for name in ("train", "validation", "test"):
        if splits is not None and (tensors := getattr(splits, name)):
            yield f"rows to {name}", f"{len(tensors[0]):,}"


def _table(*rows: Sequence[str], has_head: bool = False) -> list[str]:
    """The lines of a Markdown table. Without ``has_head`` its header cells are empty."""
    head, *body = rows if has_head else (("",) * len(rows[0]), *rows)
    lines = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in (head, *body)]
    return [f"| {lines[0]} |", "|" + "---|" * len(head), *(f"| {line} |" for line in lines[1:])]
