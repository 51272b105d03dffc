"""The curves of a run: metrics.csv and TensorBoard's events. A checkpoint stores how far they had been written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import TensorBoardLogger

from unvanish.command.checkpoint_file import read
from unvanish.command.checkpoints import KEPT
from unvanish.command.errors import WrongInputError
from unvanish.command.metrics_table import MetricsTable
from unvanish.command.processes import is_first

_EVENTS = "events.out.tfevents.*"


@final
class RunLogs:
    """The two loggers of a run. After a resume no row is lost or doubled in either.

    Args:
        folder: The run's folder.
        marks: How far the files were written at the checkpoint that the run resumes from; None for a new run.
        step: The step of that checkpoint.
    """

    def __init__(self, folder: Path, marks: dict[str, Any] | None = None, step: int | None = None) -> None:
        self.folder, self.goes_on = folder, marks is not None
        self._marks, self._before = marks, [*folder.glob(_EVENTS)]
        self.table = MetricsTable(folder)
        # What another TensorBoard has read meanwhile it forgets from this step on.
        purge: dict[str, Any] = {} if marks is None else {"purge_step": step}
        self.events = TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False, **purge)

    def go_on(self) -> None:
        """Drop what was written after the checkpoint, once."""
        marks, self._marks = self._marks, None
        if marks is None or not is_first():
            return
        self.table.keep(marks["rows"])
        for path in self._before:
            size = marks["events"].get(path.name)
            if size is None:
                path.unlink()
            elif path.stat().st_size > size:
                with path.open("r+b") as file:
                    file.truncate(size)

    def take_back(self) -> None:
        """Leave a run that does not go on as it was: Lightning opens a file of events before anything is checked."""
        if self._marks is not None and self.events._experiment is not None:
            self.events.experiment.close()
            for path in {*self.folder.glob(_EVENTS)}.difference(self._before):
                path.unlink()

    def marks(self) -> dict[str, Any]:
        """How far the files are written, after flushing: the rows of metrics.csv and the bytes of each event file."""
        if not is_first():
            return {}
        if self.events._experiment is not None:
            self.events.experiment.flush()
        sizes = {path.name: path.stat().st_size for path in self.folder.glob(_EVENTS)}
        return {"rows": self.table.rows, "events": sizes}


@contextmanager
def told_once() -> Iterator[None]:
    """Keep TensorBoard's thread from printing that the disk is full: its next write raises the error as well."""
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
    """How far the logs were written at a checkpoint, and its step.

    Args:
        checkpoint: The checkpoint to resume from.
        identity: The identity of the data that the resumed run uses, see ``identity_of``.

    Raises:
        WrongInputError: the checkpoint does not say, or its run used other data.
    """
    found = read(checkpoint)
    kept = found.get(KEPT)
    if kept is None:
        raise WrongInputError(f"{checkpoint} is of an earlier version: without --resume a new run starts from it")
    if kept["identity"] != identity:
        raise WrongInputError(f"{checkpoint} is of other data: those of the recipe have changed since")
    return kept["logs"], found["global_step"]
