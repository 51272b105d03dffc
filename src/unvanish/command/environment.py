"""What the user's environment says of threads; torch reads it once, when it is imported, which is later than this."""

import os
import sys

_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def is_number_of_threads_given() -> bool:
    """Whether the user has said how many."""
    return any(map(os.environ.get, _NUMBER))


def wait_briefly() -> None:
    """Let two threads that wait for each other go to sleep after microseconds instead of milliseconds.

    On two processors another program takes that of one thread, and the other would turn round and round at every
    operation. On more of them that is rarer, and waking as many threads costs more than it saves.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processors <= 2 and "torch" not in sys.modules and not any(map(os.environ.get, (*_NUMBER, *_WAITING))):
        os.environ["GOMP_SPINCOUNT"] = "1000"
