"""``unvanish compare``: variants of recipes on the same data, in the same order, from the same seeds."""

import logging
import multiprocessing
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import final

import torch

from unvanish import page
from unvanish.command import recipes
from unvanish.command.compare_figure import figure
from unvanish.command.compare_page import write_page
from unvanish.command.compare_run import Result, Run, parse
from unvanish.command.compare_table import Comparison, Row
from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.main import quieten
from unvanish.command.run_folder import check_replaceable, new_folder
from unvanish.command.threads import share_of_threads
from unvanish.training import OBJECTIVES
from unvanish.training.metrics import Objective


def compare(options: Namespace, overrides: list[str]) -> int:
    """Train every variant with every seed, test it, and print one table; 1 where a run has failed."""
    for name, value in (("--seeds", options.seeds), ("--jobs", options.jobs)):
        if value < 1:
            raise WrongInputError(f"{name} is {value}; it must be at least 1")
    _hush()
    chosen = recipes.side_by_side(options.recipes, options.set)
    target = recipes.target_of(options.recipes) if options.target is None else options.target
    seeds, objective = _understood(chosen, overrides)
    folder = _folder(options)
    # Seed by seed, so that what is there after a while is a comparison.
    runs = [
        Run(name, seeds[name] + index, recipe, tuple(overrides), folder)
        for index in range(options.seeds)
        for name, recipe in chosen.items()
    ]
    folders = {run.folder for run in runs}
    for run in runs:
        if folders.intersection(run.folder.parents):
            raise WrongInputError(f"{run.variant} would be kept in the folder of another run, which may be removed")
    results = {run.folder: result for run in runs if (result := run.kept())}
    there = f", {len(results)} of them there already" if results else ""
    for run in (waiting := [run for run in runs if run.folder not in results]):
        check_replaceable(run.folder)
    if changed := sum(run.is_replaced for run in runs):
        there += f", {changed} there of another configuration, which are trained anew"
    print(f"{len(runs)} runs of {len(chosen)} variants{there}; if interrupted, go on with --out {folder}", flush=True)
    for run, result in _trained(waiting, options.jobs):
        results[run.folder] = result
        print(f"{len(results)}/{len(runs)} {_line(result, objective.metric)}", flush=True)
    rows = [Row(name, [results[run.folder] for run in runs if run.variant == name]) for name in chosen]
    comparison = Comparison(rows, objective, target)
    comparison.save(folder)
    print(f"\n{comparison}\n\nkept as comparison.md, .csv and .json in {folder}")
    if picture := figure(comparison, folder):
        (folder / "comparison.png").write_bytes(picture)
        print(f"drawn as {folder / 'comparison.png'}")
    if write_page(comparison, folder):
        print(f"gradients, all runs on one scale: {folder / page.REPORT}")
    print(f"next: tensorboard --logdir {folder}")
    return int(any(result.error for result in results.values()))


def _understood(chosen: dict[str, recipes.Recipe], overrides: list[str]) -> tuple[dict[str, int], Objective]:
    """The first seed of each variant, and the metric of all; a mistake in any shows before the first is trained."""
    seeds: dict[str, int] = {}
    objectives: dict[str, Objective] = {}
    for name, recipe in chosen.items():
        experiment = parse(recipe, overrides)
        seeds[name] = experiment.arguments.seed
        objectives[name] = OBJECTIVES[experiment.build().model.settings.task]
    if len(set(objectives.values())) > 1:
        listed = ", ".join(f"{name} has {objective.metric}" for name, objective in objectives.items())
        raise WrongInputError(f"variants are compared by one metric, and these have several: {listed}")
    return seeds, next(iter(objectives.values()))


def _folder(options: Namespace) -> Path:
    """Where the comparison is kept: the folder that is asked for, or a new one."""
    if options.out:
        folder = Path(options.out)
        with as_wrong_input("cannot write the comparison: "):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    names = [recipes.name_of(recipes.locate(name)) for name in options.recipes]
    return new_folder(Path(options.runs) / (names[0] if len(names) == 1 else "compare"))


def _trained(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, Result]]:
    """Runs with their results, as they come."""
    if jobs == 1:
        for run in runs:
            yield run, run.train()
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def train(run: Run) -> Result:
        worker = idle.get()
        try:
            return worker.train(run)
        finally:
            idle.put(worker)

    with ExitStack() as stack:
        for _ in range(jobs):
            idle.put(stack.enter_context(_Worker(share_of_threads(jobs))))
        threads = stack.enter_context(ThreadPoolExecutor(jobs))
        stack.callback(threads.shutdown, cancel_futures=True)  # leaving the pool alone would train all that wait
        futures = {threads.submit(train, run): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()


@final
class _Worker(AbstractContextManager["_Worker"]):
    """A process that trains one run after another; where it is killed, the next run has a new one."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = self._started()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def train(self, run: Run) -> Result:
        """The result of a run, here or in the process."""
        try:
            return self._pool.submit(run.train).result()
        except BrokenProcessPool:
            self._pool = self._started()
            return Result(run.variant, run.seed, "its process was killed; was there too little memory?")

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_worker, (self._threads,))


def _start_worker(threads: int) -> None:
    sys.path.append("")  # as in ``main``
    quieten("stdout")
    _hush()
    torch.set_num_threads(threads)


def _hush() -> None:
    """Each of many networks would say how it is initialized."""
    logging.getLogger("unvanish").setLevel(logging.WARNING)


def _line(result: Result, metric: str) -> str:
    what = f"{result.variant}, seed {result.seed}: "
    if result.error:
        return f"{what}failed: {result.error}"
    scores = [f"{name} {metric} {value:.4f}" for name, value in result.scores.items()]
    return what + ", ".join([*scores, result.verdict, f"{result.seconds:.0f} s"])
