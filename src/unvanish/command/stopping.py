"""Lets a command that has started others end with them at Ctrl-C and SIGTERM alike."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unvanish.command.errors import StoppedError


@contextmanager
def terminable(how_to_go_on: str) -> Iterator[None]:
    """Turn either signal into a ``StoppedError``, which says how to go on."""

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
