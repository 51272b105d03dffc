"""A live line for each run of a comparison that is trained, and one for all of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from unvanish.command.compare.task import Step
from unvanish.command.progress import live_line
from unvanish.command.terminal import console, is_live


@final
class RunLines:
    """The lines; on what is no terminal there are none.

    Args:
        names: What the runs that are trained are called, by their folders.
        done: How many runs are there already.

    Attributes:
        console: Whatever is printed goes here, above the lines.
    """

    def __init__(self, names: Mapping[Path, str], done: int) -> None:
        self.console = console()
        self.is_live = is_live(self.console)
        self._progress = live_line(self.console, "{task.description}")
        self._names, self._before, self._done = names, done, 0
        self._all = self._progress.add_task(self.counted, total=len(names), rate="")
        self._tasks: dict[Path, Any] = {}

    @property
    def counted(self) -> str:
        """How many runs are done."""
        return f"{self._before + self._done} of {self._before + len(self._names)} runs"

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
        if step.folder not in self._tasks:
            name = self._names[step.folder]
            self._tasks[step.folder] = self._progress.add_task(name, total=step.total, rate="")
        task = self._progress.tasks[self._progress.task_ids.index(self._tasks[step.folder])]
        self._progress.update(task.id, completed=step.step, rate=f"{task.speed or 0:.1f} steps/s" if task.speed else "")
        self._redraw()

    def finished(self, folder: Path) -> None:
        """Take a run's line away."""
        self._done += 1
        if folder in self._tasks:
            self._progress.remove_task(self._tasks.pop(folder))
        self._redraw()

    def _redraw(self) -> None:
        under_way = [task for task in self._progress.tasks if task.id in self._tasks.values() and task.total]
        share = sum(task.completed / (task.total or 1) for task in under_way)
        self._progress.update(self._all, completed=self._done + share, description=self.counted)
        self._progress.refresh()
