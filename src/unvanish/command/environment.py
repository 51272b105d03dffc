"""Environment variables about threads. torch reads them once, when it is imported, which is after this module."""

import os
import sys

_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def is_number_of_threads_given() -> bool:
    """Whether the user has set the number of threads."""
    return any(map(os.environ.get, _NUMBER))


def wait_briefly() -> None:
    """Make waiting OpenMP threads sleep after microseconds instead of milliseconds, on at most two processors.

    With two processors, another program often takes one of them, and the other thread would spin at the end of every
    operation. With more processors this is rarer, and waking so many threads costs more than it saves.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processors <= 2 and "torch" not in sys.modules and not any(map(os.environ.get, (*_NUMBER, *_WAITING))):
        os.environ["GOMP_SPINCOUNT"] = "1000"
