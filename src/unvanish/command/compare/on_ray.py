"""Runs by Ray, on this machine or on a cluster: each has its share of the CPUs, or a GPU, and a process of its own."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from unvanish import trust
from unvanish.command.compare.task import Task, work
from unvanish.command.errors import FailedError, WrongInputError, one_line

#: A run whose process dies is started once more, from its last checkpoint.
_TRIED_AGAIN = 1


def launch(
    tasks: Iterable[Task], jobs: int | None, *, address: str | None = None, takes_gpu: bool = True
) -> Iterator[tuple[Task, int]]:
    """The tasks as they end, with the exit codes of their processes; -9 is that of one that was killed twice.

    Whoever leaves this iterator, or is interrupted in it, stops those that are not done: each keeps its checkpoint.

    Args:
        tasks: Taken one by one, as there is room.
        jobs: Runs at a time, among which CPUs and GPUs are shared out; None gives each one of them.
        address: Of a cluster; None starts Ray on this machine, unless RAY_ADDRESS names one.
        takes_gpu: Whether a run takes a GPU where there is any.
    """
    ray = installed()
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's own are of many kinds, and some of none
        ray.shutdown()  # what has started of it
        where = f"there is no Ray cluster at {address}" if address else "Ray does not start"
        raise FailedError(f"{where}: {one_line(error)}") from error
    nodes: Any = ray.nodes  # it has no types
    cpus, gpus = _shares(nodes(), jobs, takes_gpu)
    # A process a run, as of the other launcher: nothing of one run is left for the next.
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=_TRIED_AGAIN)(work)
    waiting = iter(tasks)
    running: dict[Any, Task] = {}
    try:
        while True:
            while (jobs is None or len(running) < jobs) and (task := next(waiting, None)) is not None:
                # What a worker's environment says of GPUs is Ray's.
                kept = {name: value for name, value in task.environment.items() if name == trust.VARIABLE}
                running[remote.remote(task._replace(environment=kept, threads=cpus))] = task
            if not running:
                return
            (done,), _ = ray.wait([*running], num_returns=1)
            task = running.pop(done)
            yield task, _code(ray, done, task)
    finally:
        for reference in running:
            ray.cancel(reference, force=False)
        if running:
            ray.wait([*running], num_returns=len(running), timeout=60)
        ray.shutdown()


def installed() -> Any:
    """Ray, or a WrongInputError that says how to install it."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise WrongInputError("--launcher ray needs Ray: pip install 'unvanish[ray]'") from error
    return ray


def _code(ray: Any, reference: Any, task: Task) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # before the run began: its machine has no such folder, or no package
        task.log.write_text(f"{one_line(error.cause)}\n", encoding="utf-8")
        return 1
    except ray.exceptions.RayError:
        return -9


def _shares(nodes: list[dict[str, Any]], jobs: int | None, takes_gpu: bool) -> tuple[int, float]:
    """CPUs and GPUs of a run: no more than the smallest machine has."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    processors = [int(machine.get("CPU", 0)) for machine in machines]
    cpus = 1 if jobs is None else max(1, min(sum(processors) // jobs, min(filter(None, processors), default=1)))
    devices = sum(machine.get("GPU", 0) for machine in machines) if takes_gpu else 0
    return cpus, 0 if not devices else 1 if jobs is None else min(1, devices / jobs)
