"""A network's scores: the table that is printed, and the files in the run's folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary

from unvanish.command.best import Best
from unvanish.command.confusion import confusion_picture
from unvanish.command.run_folder import write_text
from unvanish.gradients.judge.report import json_number
from unvanish.gradients.show.values import picture_value
from unvanish.training import Scores
from unvanish.training.evaluation import CONSTANT

SCORES, CONFUSION = "scores.json", "confusion_matrix"
_MOST_LINES = 30  # of classes, printed


@final
class KeptScores(L.Callback):
    """Keeps in the run's folder what the best epoch's network is worth on the validation split.

    Args:
        folder: The run's folder.
        best: Knows the scores of the best epoch.
        class_names: Of the data.
    """

    def __init__(self, folder: Path, best: Best, class_names: Sequence[str] | None) -> None:
        self.folder, self.best, self.class_names = folder, best, class_names

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write them, and draw the confusion matrix."""
        scores = self.best.scores
        if scores is None or not trainer.is_global_zero:
            return
        keep(scores, self.folder, "val", self.class_names)
        if (png := confusion_picture(scores, self.class_names)) is not None:
            (self.folder / f"val_{CONFUSION}.png").write_bytes(png)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    summary = Summary(value=[picture_value(f"val/{CONFUSION}", png)])
                    logger.experiment._get_file_writer().add_summary(summary, trainer.global_step)


def keep(
    scores: Scores,
    folder: Path,
    stage: str,
    class_names: Sequence[str] | None,
    values: Mapping[str, float] | None = None,
) -> None:
    """Write them to scores.json, beside those of other splits."""
    path = folder / SCORES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    write_text(path, json.dumps(found | {stage: plain(scores, class_names, values)}, indent=2, allow_nan=False) + "\n")


def plain(scores: Scores, class_names: Sequence[str] | None, values: Mapping[str, float] | None = None) -> Any:
    """In what JSON knows: metrics, baselines, and by class."""
    written: dict[str, Any] = {
        "metrics": {name: json_number(value) for name, value in (values or scores.values).items()},
        "baselines": {
            kind: {name: json_number(value) for name, value in baseline.items()}
            for kind, baseline in scores.baselines.items()
        },
    }
    if scores.confusion:
        names = class_names or [*map(str, range(len(scores.confusion)))]
        written["classes"] = dict(zip(names, scores.by_class(), strict=True))
        written["confusion"] = scores.confusion
    return written


def lines(
    scores: Scores, task: str, stage: str, values: Mapping[str, float], class_names: Sequence[str] | None
) -> Iterator[str]:
    """A table of the scores beside those of the baselines, one of the classes, and what is no better than a baseline.

    Args:
        scores: What was found.
        task: Of the network.
        stage: ``val`` or ``test``.
        values: Each metric by its name without the stage, the loss among them.
        class_names: Of the data.
    """
    kinds = [*scores.baselines]
    rows = [["", "score", *kinds]]
    for name, value in values.items():
        others = [scores.baselines[kind].get(name) for kind in kinds]
        rows.append([f"{stage}/{name}", f"{value:.4f}", *("" if x is None else f"{x:.4f}" for x in others)])
    yield from aligned(rows)
    if 0 < len(scores.confusion) <= _MOST_LINES:
        names = class_names or [*map(str, range(len(scores.confusion)))]
        yield ""
        table = [["class", "precision", "recall", "f1", "samples"]]
        for name, found in zip(names, scores.by_class(), strict=True):
            cells = [f"{found[key]:.4f}" for key in ("precision", "recall", "f1")]
            table.append([name[:30], *cells, str(int(found["samples"]))])
        yield from aligned(table)
    yield from warnings_of(scores, task, class_names, values)


def warnings_of(
    scores: Scores, task: str, class_names: Sequence[str] | None, values: Mapping[str, float] | None = None
) -> Iterator[str]:
    """A sentence for each baseline that the network does not beat."""
    found = scores.values if values is None else values
    for kind, names in scores.not_better(task, found).items():
        what = f"the {kind} answer"
        if kind == CONSTANT and scores.confusion:
            counts = [sum(row) for row in scores.confusion]
            most = counts.index(max(counts))
            what = f"always answering {class_names[most] if class_names else most!r}"
        elif kind == CONSTANT:
            what = "the best constant prediction"
        both = ", ".join(f"{name} {found[name]:.4g} to {scores.baselines[kind][name]:.4g}" for name in names)
        yield f"no better than {what}: {both}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Cells in columns, the first to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()
