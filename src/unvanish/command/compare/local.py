"""Runs in processes of this machine. Each is a process of its own, forked from one that has imported torch already."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any

from unvanish.command.compare.task import Step, Task, work

#: What a run needs first, imported once.
_PRELOADED = ["unvanish.command.fit", "unvanish.networks", "unvanish.data", "pandas", "sklearn.preprocessing"]


def warm() -> BaseContext:
    """Start the process that the others are forked from; it imports while this one goes on."""
    has_fork_server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if has_fork_server else "spawn")
    if has_fork_server:
        from multiprocessing import forkserver

        context.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()
    return context


def launch(tasks: Iterable[Task], jobs: int, tell: Callable[[Step], Any] | None = None) -> Iterator[tuple[Task, int]]:
    """The tasks as their processes end, with their exit codes; -9 is that of one that was killed by SIGKILL.

    Whoever leaves this iterator, or is interrupted in it, stops those that are not done: each keeps its checkpoint.

    Args:
        tasks: Taken one by one, as there is room.
        jobs: Processes at a time.
        tell: Is told how far the runs have come.
    """
    context, waiting = warm(), iter(tasks)
    children: dict[Any, tuple[Task, Any]] = {}
    steps: dict[Any, None] = {}
    try:
        while True:
            while len(children) < jobs and (task := next(waiting, None)) is not None:
                reader, writer = context.Pipe(duplex=False)
                child = context.Process(target=_child, args=(task, writer if tell else None))  # type: ignore[attr-defined]
                child.start()
                writer.close()
                children[child.sentinel], steps[reader] = (task, child), None
            if not children:
                return
            for ready in connection.wait([*children, *steps]):
                if ready in children:
                    task, child = children.pop(ready)
                    child.join()
                    yield task, child.exitcode
                else:
                    _read(ready, steps, tell)
    finally:
        _stop([child for _, child in children.values()])


def _read(reader: Any, steps: dict[Any, None], tell: Callable[[Step], Any] | None) -> None:
    try:
        step = reader.recv()
        if tell:
            tell(step)
    except (EOFError, OSError):  # its process has ended
        reader.close()
        del steps[reader]


def _stop(children: list[Any]) -> None:
    """Let them keep what they have, which takes seconds; whoever is interrupted here again kills them."""
    try:
        for child in children:
            child.terminate()
        for child in children:
            child.join()
    finally:
        for child in children:
            child.kill()
            child.join()


def _child(task: Task, steps: Any) -> None:
    with suppress(OSError, AttributeError):
        os.setpgid(0, 0)  # Ctrl-C reaches the comparison, which passes it on
    if parent := multiprocessing.parent_process():
        import threading

        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    raise SystemExit(work(task, steps.send if steps else None))


def _end_with(parent: Any) -> None:
    """A run does not outlive whatever has started it."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
