"""Lets a command end together with the processes that it has started, on both Ctrl-C and SIGTERM."""

import shlex
import signal
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from unvanish.command.errors import StoppedError


@contextmanager
def terminable(options: Namespace, folder: Path) -> Iterator[None]:
    """Turn either signal into a ``StoppedError`` whose message has the command that continues in ``folder``."""
    words = getattr(options, "words", None)
    if words is None:
        how_to_go_on = f"go on with out={str(folder)!r}"
    else:
        named = [] if any(word.partition("=")[0] == "--out" for word in words) else ["--out", str(folder)]
        how_to_go_on = f"go on with `{shlex.join(['unvanish', *words, *named])}`"

    def stop(signum: int, frame: FrameType | None) -> None:
        raise StoppedError(f"stopped by {signal.Signals(signum).name}; {how_to_go_on}", signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
