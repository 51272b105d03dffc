"""How a comparison ends that is told to stop: with the line that goes on from there."""

import multiprocessing
import shlex
import signal
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from unvanish.command.errors import StoppedError


def again(options: Namespace, overrides: Sequence[str], folder: Path) -> str:
    """The command that goes on with a comparison in its folder."""
    said = [f"--set={value}" for value in options.set]
    said += [
        f"--{name}={value}" for name, usual in (("seeds", 1), ("jobs", 1)) if (value := vars(options)[name]) != usual
    ]
    said += [] if options.target is None else [f"--target={options.target}"]
    return shlex.join(["unvanish", "compare", *options.recipes, *said, *overrides, f"--out={folder}"])


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Answer SIGINT and SIGTERM by ``StoppedError``, which names the command to go on with."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _hear) if is_main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        signum = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise StoppedError(f"stopped by {signum.name}; go on with `{command}`", signum) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _hear(signum: int, frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():  # else their runs would be waited for
        child.terminate()
    raise SystemExit(128 + signum)
