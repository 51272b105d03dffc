"""A command in a process of its own, forked from one that has imported everything, which shows where it is."""

import mmap
import os
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop

from unvanish.command import checkpoint_file, keeper
from unvanish.command.main import main

TRAINING, VALIDATION, WRITING = "training", "validation", "writing"
_MOMENTS = ("starting", TRAINING, VALIDATION, WRITING)


class Child:
    """The process.

    Args:
        words: The command's.
        folder: Where it runs, and where ``output.txt`` keeps what it prints.
        threads: That torch may take.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._shared = mmap.mmap(-1, 16)
        self.pid = os.fork()
        if self.pid == 0:
            _run(words, folder, self._shared)

    @property
    def steps(self) -> int:
        """Batches that it has begun."""
        return int(struct.unpack("q", self._shared[8:16])[0])

    @property
    def moment(self) -> str:
        """What it is doing."""
        return _MOMENTS[self._shared[0]]

    def is_over(self) -> bool:
        """Whether it has ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def code(self, seconds: float = 300) -> int:
        """How it has ended: an exit code, or minus a signal."""
        deadline = time.monotonic() + seconds
        while not self.is_over():
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                raise TimeoutError(f"it has not ended in {seconds} s")
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _run(words: Sequence[str], folder: Path, shared: mmap.mmap) -> None:
    code = 70
    try:
        os.chdir(folder)
        file = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        _show(shared)
        code = main([*words])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _show(shared: mmap.mmap) -> None:
    """Have the loops and the writer say when they are at work."""
    begin, write, validate = keeper.Keeper.on_train_batch_start, checkpoint_file.write, _EvaluationLoop.run

    def on_train_batch_start(self: Any, trainer: L.Trainer, *rest: Any) -> None:
        shared[0] = _MOMENTS.index(TRAINING)
        shared[8:16] = struct.pack("q", trainer.fit_loop.epoch_loop.total_batch_idx)
        begin(self, trainer, *rest)

    def during(moment: str, function: Any) -> Any:
        def shown(*arguments: Any, **keywords: Any) -> Any:
            before, shared[0] = shared[0], _MOMENTS.index(moment)
            try:
                return function(*arguments, **keywords)
            finally:
                shared[0] = before

        return shown

    keeper.Keeper.on_train_batch_start = on_train_batch_start  # type: ignore[method-assign, assignment]
    checkpoint_file.write = during(WRITING, write)
    _EvaluationLoop.run = during(VALIDATION, validate)  # type: ignore[method-assign]
