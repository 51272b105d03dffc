"""The curves of a run: metrics.csv and TensorBoard's events, with marks up to which a checkpoint has them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import TensorBoardLogger

from unvanish.command.checkpoint_file import read
from unvanish.command.checkpoints import KEPT
from unvanish.command.errors import WrongInputError
from unvanish.command.metrics_table import MetricsTable, keep_rows
from unvanish.command.processes import is_first

_EVENTS = "events.out.tfevents.*"


@final
class RunLogs:
    """The two loggers of a run; one that goes on has one curve in each, without a row lost or doubled.

    Args:
        folder: The run's folder.
        marks: Those of the checkpoint that the run goes on from; None for a run that begins.
        step: Of that checkpoint.
    """

    def __init__(self, folder: Path, marks: dict[str, Any] | None = None, step: int | None = None) -> None:
        self.folder, self.goes_on = folder, marks is not None
        if marks is not None and is_first():
            _cut(folder, marks)
        self.table = MetricsTable(folder)
        # What another TensorBoard has read meanwhile it forgets from this step on.
        purge: dict[str, Any] = {} if marks is None else {"purge_step": step}
        self.events = TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False, **purge)

    def marks(self) -> dict[str, Any]:
        """How far the files are written, when all that waits has been."""
        if not is_first():
            return {}
        if self.events._experiment is not None:
            self.events.experiment.flush()
        sizes = {path.name: path.stat().st_size for path in self.folder.glob(_EVENTS)}
        return {"rows": self.table.rows, "events": sizes}


@contextmanager
def told_once() -> Iterator[None]:
    """Keep TensorBoard's thread from printing that the disk is full: its next write says so, and ends the run."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def marks_of(checkpoint: Path, identity: str) -> tuple[dict[str, Any], int]:
    """The marks of a checkpoint and its step.

    Args:
        checkpoint: What a run goes on from.
        identity: What tells the data that it goes on with from others.

    Raises:
        WrongInputError: it has no marks, or its run had other data.
    """
    found = read(checkpoint)
    kept = found.get(KEPT)
    if kept is None:
        raise WrongInputError(f"{checkpoint} is of an earlier version: without --resume a new run starts from it")
    if kept["identity"] != identity:
        raise WrongInputError(f"{checkpoint} is of other data: those of the recipe have changed since")
    return kept["logs"], found["global_step"]


def _cut(folder: Path, marks: dict[str, Any]) -> None:
    """Drop what was written after the checkpoint."""
    keep_rows(folder, marks["rows"])
    for path in folder.glob(_EVENTS):
        size = marks["events"].get(path.name)
        if size is None:
            path.unlink()
        elif path.stat().st_size > size:
            with path.open("r+b") as file:
                file.truncate(size)
