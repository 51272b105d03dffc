"""A run as a launcher takes it: ``unvanish fit FOLDER/config.yaml --resume``, and what it prints in a file."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple


class Step(NamedTuple):
    """How far a run has come.

    Args:
        folder: Of the run.
        step: Of the optimizer.
        total: How many there will be; None where nobody knows.
    """

    folder: Path
    step: int
    total: int | None


class Task(NamedTuple):
    """A run that waits for its turn, with all that another process must know of this one.

    Args:
        folder: The run's, with its marker and config.yaml.
        place: The current folder, of which relative paths are.
        threads: How many it may take on the CPU.
        environment: Variables, also those that were set after the launcher was started.
        paths: Where classes are imported from.
        columns: Of TensorBoard's HPARAMS page, those in which runs differ.
        callbacks: What watches the run, beside those of its recipe.
        tests: Whether its best checkpoint is tested in the end.
    """

    folder: Path
    place: Path
    threads: int
    environment: dict[str, str]
    paths: tuple[str, ...]
    columns: tuple[str, ...] = ()
    callbacks: tuple[Any, ...] = ()
    tests: bool = True

    @property
    def log(self) -> Path:
        """Beside the folder, which is gone where a run is refused before its first step."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @classmethod
    def of(cls, folder: Path, threads: int, columns: tuple[str, ...], **options: Any) -> "Task":
        """A run as it would be trained here."""
        here = Path.cwd(), threads, dict(os.environ), tuple(sys.path)
        return cls(folder.absolute(), *here, columns=columns, **options)

    def why(self, code: int) -> str:
        """Why a run has not come to its end, in one line, where it could not say so itself."""
        if code < 0:
            return f"its process was killed by signal {-code}; was there too little memory?"
        lines = self.log.read_text(encoding="utf-8").split("\n") if self.log.is_file() else []
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("unvanish: ") if said else f"its process has ended with {code}"


def work(task: Task, tell: Callable[[Step], Any] | None = None) -> int:
    """Train a run in this process, and return what ``unvanish fit`` would end with.

    Args:
        task: What is trained.
        tell: Is told how far it has come, a few times a second.
    """
    os.chdir(task.place)
    os.environ.update(task.environment)
    sys.path[:] = task.paths
    import torch

    from unvanish.command.compare.teller import Teller
    from unvanish.command.fit import fit
    from unvanish.command.main import answered, quieten
    from unvanish.command.recipes import CONFIG
    from unvanish.command.verbs import parser

    torch.set_num_threads(task.threads)
    words = ["fit", "-c", str(task.folder / CONFIG), "--resume", *(["--test"] if task.tests else [])]
    options = parser().parse_args(words)
    callbacks = [*task.callbacks, *([Teller(task.folder, tell)] if tell else [])]
    with task.log.open("w", encoding="utf-8", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        quieten("stdout")
        return answered(partial(fit, options, [], callbacks=callbacks, columns=task.columns))
