"""A live line for each run of a comparison that trains, here or in another process, and one for all of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, NamedTuple, Protocol, final

import lightning as L

from unvanish.command.progress import live_line
from unvanish.command.terminal import console, is_live

_TOLD_EVERY = 0.2


class Step(NamedTuple):
    """How far a run has come.

    Args:
        run: Its variant and seed.
        step: Of the optimizer.
        total: How many there will be; None where nobody knows.
    """

    run: str
    step: int
    total: int | None


class Mail(Protocol):
    """A queue between processes."""

    def put(self, step: Step, /) -> None:
        """Send one."""

    def get_nowait(self) -> Step:
        """Take one, or raise ``queue.Empty``."""

    def cancel_join_thread(self) -> None:
        """Do not wait at the end for what was not sent yet."""


@final
class Teller(L.Callback):
    """Tells how far its run has come, a few times a second."""

    def __init__(self, run: str, tell: Callable[[Step], Any]) -> None:
        self._run, self._tell = run, tell
        self._told = 0.0
        self._total: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know the end."""
        steps = trainer.estimated_stepping_batches
        self._total = int(steps) if 0 < steps < float("inf") else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell."""
        if time.monotonic() - self._told >= _TOLD_EVERY:
            self._told = time.monotonic()
            self._tell(Step(self._run, trainer.global_step, self._total))


@final
class RunLines:
    """The lines; on what is no terminal there are none.

    Args:
        total: How many runs there are.
        done: How many of them are there already.

    Attributes:
        console: Whatever is printed goes here, above the lines.
    """

    def __init__(self, total: int, done: int) -> None:
        self.console = console()
        self.is_live = is_live(self.console)
        self._progress = live_line(self.console, "{task.description}")
        self._all = self._progress.add_task(self._counted(done, total), total=total - done, rate="")
        self._total, self._before, self._done = total, done, 0
        self._tasks: dict[str, Any] = {}

    @staticmethod
    def _counted(done: int, total: int) -> str:
        return f"{done} of {total} runs"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw them as long as this lasts."""
        self._progress.start()
        try:
            yield
        finally:
            self._progress.stop()

    def tell(self, step: Step) -> None:
        """Take in how far a run has come."""
        if step.run not in self._tasks:
            self._tasks[step.run] = self._progress.add_task(step.run, total=step.total, rate="")
        task = self._progress.tasks[self._progress.task_ids.index(self._tasks[step.run])]
        self._progress.update(task.id, completed=step.step, rate=f"{task.speed or 0:.1f} steps/s" if task.speed else "")
        self._redraw()

    def drain(self, mail: Mail) -> None:
        """Take in all that has come from other processes."""
        while True:
            try:
                self.tell(mail.get_nowait())
            except Empty:
                return

    def finished(self, run: str) -> None:
        """Take its line away."""
        self._done += 1
        if run in self._tasks:
            self._progress.remove_task(self._tasks.pop(run))
        self._redraw()

    def _redraw(self) -> None:
        under_way = [task for task in self._progress.tasks if task.id in self._tasks.values() and task.total]
        share = sum(task.completed / (task.total or 1) for task in under_way)
        what = self._counted(self._before + self._done, self._total)
        self._progress.update(self._all, completed=self._done + share, description=what)
        self._progress.refresh()
