"""Checks networks in processes of their own, so that one that hangs, crashes or wants too much ends nothing else."""

import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from multiprocessing import connection, get_context
from typing import Any, NamedTuple

import torch

from benchmarks.architectures.check import check
from benchmarks.architectures.specimen import CannotRunError

Job = tuple[str, str]
SOURCES = ("torchvision", "timm", "transformers")


class Limits(NamedTuple):
    """What one network may take: seconds, and GiB of memory."""

    seconds: float
    memory: float


def source_of(source: str) -> Any:
    """The module that builds the networks of a library; its import fails where the library is absent."""
    return import_module(f"benchmarks.architectures.{source}_models")


def check_one(source: str, name: str) -> dict[str, Any]:
    """The row of a network, in this process."""
    start = time.perf_counter()
    row: dict[str, Any] = {"source": source, "name": name}
    try:
        row |= check(source_of(source).builder(name))
    except CannotRunError as reason:
        row["not_run"] = str(reason)
    except MemoryError:
        row |= {"not_run": "not enough memory", "is_limit": True}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def check_all(jobs: Iterable[Job], workers: int, limits: Limits) -> Iterator[dict[str, Any]]:
    """The rows of all networks, in the order in which they are done."""
    waiting = list(jobs)[::-1]
    pool: list[_Worker] = []
    try:
        while waiting or pool:
            while waiting and len(pool) < workers:
                pool.append(_Worker(limits))
                pool[-1].begin(waiting.pop())
            connection.wait([worker.pipe for worker in pool], timeout=1)
            for worker in list(pool):
                if (row := worker.row()) is None:
                    continue
                yield row
                if waiting and worker.is_usable:
                    worker.begin(waiting.pop())
                else:
                    worker.end()
                    pool.remove(worker)
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A process that checks one network after another."""

    def __init__(self, limits: Limits) -> None:
        context = get_context("spawn")
        self.limits = limits
        self.is_usable = True
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, limits.memory), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, job: Job) -> None:
        self.job = job
        self.started = time.monotonic()
        self.pipe.send(job)

    def row(self) -> dict[str, Any] | None:
        """The row of the present network; None while it is not done."""
        try:
            if self.pipe.poll():
                row: dict[str, Any] = self.pipe.recv()
                self.is_usable = "is_limit" not in row
                return row
            seconds = time.monotonic() - self.started
            if seconds < self.limits.seconds:
                return None
            reason = f"not done after {self.limits.seconds:.0f} seconds"
        except (EOFError, ConnectionError):
            self.process.join()
            seconds = time.monotonic() - self.started
            reason = f"its process ended with code {self.process.exitcode}"
        self.is_usable = False
        source, name = self.job
        return {"source": source, "name": name, "not_run": reason, "is_limit": True, "seconds": round(seconds, 1)}

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: connection.Connection, memory: float) -> None:
    torch.set_num_threads(1)  # as many networks as workers, a core each
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory * 2**30),) * 2)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)  # what others' networks print is not the table
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(check_one(*job))
