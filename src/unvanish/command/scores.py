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
from unvanish.command.result import plain as plain_json
from unvanish.command.run_folder import write_text
from unvanish.gradients.show.values import picture_value
from unvanish.training import Scores
from unvanish.training.evaluation import CONSTANT

SCORES, CONFUSION = "scores.json", "confusion_matrix"
_MOST_LINES = 30  # of classes, printed


@final
class KeptScores(L.Callback):
    """Writes the validation scores of the best epoch to the run's folder.

    Args:
        folder: The run's folder.
        best: The callback that keeps the best epoch and its scores.
        class_names: Names of the classes, in order; None for their numbers.
    """

    def __init__(self, folder: Path, best: Best, class_names: Sequence[str] | None) -> None:
        self.folder, self.best, self.class_names = folder, best, class_names

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the scores and draw the confusion matrix."""
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
    """Add the scores of a split to scores.json."""
    path = folder / SCORES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    write_text(path, json.dumps(found | {stage: plain(scores, class_names, values)}, indent=2, allow_nan=False) + "\n")


def plain(scores: Scores, class_names: Sequence[str] | None, values: Mapping[str, float] | None = None) -> Any:
    """The scores as JSON holds them: metrics, baselines, and values by class."""
    written: dict[str, Any] = {"metrics": dict(values or scores.values), "baselines": scores.baselines}
    if scores.confusion:
        written["classes"] = dict(zip(_names(scores, class_names), scores.by_class(), strict=True))
        written["confusion"] = scores.confusion
    return plain_json(written)


def lines(
    scores: Scores, task: str, stage: str, values: Mapping[str, float], class_names: Sequence[str] | None
) -> Iterator[str]:
    """The lines to print: a table of scores and baselines, one of the classes, and warnings about unbeaten baselines.

    Args:
        scores: The scores of a split.
        task: The network's task.
        stage: ``val`` or ``test``.
        values: The metrics by name, without the stage, and the loss.
        class_names: Of the data.
    """
    (_, *head), *rows = metric_rows(scores, values)
    yield from aligned([["", *head], *([f"{stage}/{name}", *cells] for name, *cells in rows)])
    if 0 < len(scores.confusion) <= _MOST_LINES:
        yield ""
        yield from aligned([[name[:30], *cells] for name, *cells in class_rows(scores, class_names)])
    yield from warnings_of(scores, task, class_names, values)


def metric_rows(scores: Scores, values: Mapping[str, float]) -> list[list[str]]:
    """The head of a table, and a row for each metric of ``values``: its score, and that of each baseline."""
    rows = [["metric", "score", *scores.baselines]]
    for name, value in values.items():
        others = [baseline.get(name) for baseline in scores.baselines.values()]
        rows.append([name, f"{value:.4f}", *("" if x is None else f"{x:.4f}" for x in others)])
    return rows


def class_rows(scores: Scores, class_names: Sequence[str] | None) -> list[list[str]]:
    """The head of a table, and a row for each class."""
    rows = [["class", "precision", "recall", "f1", "samples"]]
    for name, found in zip(_names(scores, class_names), scores.by_class(), strict=True):
        cells = [f"{found[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append([name, *cells, str(int(found["samples"]))])
    return rows


def _names(scores: Scores, class_names: Sequence[str] | None) -> Sequence[str]:
    return class_names or [*map(str, range(len(scores.confusion)))]


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
    """Align cells in columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()
