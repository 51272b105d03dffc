"""``unvanish compare``: variants of recipes on the same data, in the same order, from the same seeds."""

import logging
import multiprocessing
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import final

import torch
from rich.text import Text

from unvanish import page
from unvanish.command import recipes
from unvanish.command.compare_figure import figure
from unvanish.command.compare_map import map_of, to_tensorboard
from unvanish.command.compare_page import write_page
from unvanish.command.compare_progress import Mail, RunLines
from unvanish.command.compare_run import Result, Run, parse
from unvanish.command.compare_stop import again, stoppable
from unvanish.command.compare_table import Comparison, Row
from unvanish.command.compare_view import view
from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.hparams import differing, row
from unvanish.command.main import quieten
from unvanish.command.run_folder import check_replaceable, new_folder
from unvanish.command.terminal import console, say, table_width
from unvanish.command.threads import share_of_threads
from unvanish.training.metrics import Objective


def compare(options: Namespace, overrides: list[str]) -> int:
    """Train every variant with every seed, test it, and print one table; 1 where a run has failed."""
    for name, value in (("--seeds", options.seeds), ("--jobs", options.jobs)):
        if value < 1:
            raise WrongInputError(f"{name} is {value}; it must be at least 1")
    _hush()
    chosen = recipes.side_by_side(options.recipes, options.set)
    target = recipes.target_of(options.recipes) if options.target is None else options.target
    seeds, objective, columns = _understood(chosen, overrides)
    folder = _folder(options)
    # Seed by seed, so that what is there after a while is a comparison.
    runs = [
        Run(name, seeds[name] + index, recipe, tuple(overrides), folder, columns)
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
    say(f"{len(runs)} runs of {len(chosen)} variants{there}; if interrupted, go on with --out {folder}")
    lines = RunLines(len(runs), len(results))
    with stoppable(again(options, overrides, folder)), lines.shown():
        for run, result in _trained(waiting, options.jobs, lines):
            results[run.folder] = result
            lines.finished(run.label)
            say(f"{len(results)}/{len(runs)} {_line(result, objective.metric)}", lines.console)
    rows = [Row(name, [results[run.folder] for run in runs if run.variant == name]) for name in chosen]
    comparison = Comparison(rows, objective, target)
    comparison.save(folder)
    _show(comparison)
    say(f"\nkept as comparison.md, .csv and .json in {folder}")
    drawn = {"comparison": figure(comparison, folder), "comparison_map": map_of(comparison, folder)}
    pictures = {name: png for name, png in drawn.items() if png}
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    if pictures:
        say(f"drawn as {' and '.join(f'{name}.png' for name in pictures)} there")
    if write_page(comparison, folder):
        say(f"gradients, all runs on one scale: {folder / page.REPORT}")
    if any(folder.rglob("events.out.tfevents.*")):
        to_tensorboard(pictures, max(result.steps for result in results.values()), folder)
        say(f"next: tensorboard --logdir {folder}")
    return int(any(result.error for result in results.values()))


def _show(comparison: Comparison) -> None:
    where = console()
    shown = view(comparison, table_width(where), where.encoding)
    where.print()
    for index, line in enumerate(shown.lines):
        style = "bold" if index == 0 else "green" if index in shown.best else ""
        where.print(Text(line, style), soft_wrap=True)
    where.print()
    for note in shown.notes:
        say(note, where)


def _understood(
    chosen: dict[str, recipes.Recipe], overrides: list[str]
) -> tuple[dict[str, int], Objective, tuple[str, ...]]:
    """The first seed of each variant, the metric of all, and in what they differ.

    A mistake in any shows before the first is trained.
    """
    seeds: dict[str, int] = {}
    rows = []
    objectives: dict[str, Objective] = {}
    for name, recipe in chosen.items():
        experiment = parse(recipe, overrides)
        seeds[name] = experiment.arguments.seed
        rows.append(row(experiment))
        objectives[name] = experiment.build().model.objective
    if len(set(objectives.values())) > 1:
        listed = ", ".join(f"{name} has {objective.metric}" for name, objective in objectives.items())
        raise WrongInputError(f"variants are compared by one metric, and these have several: {listed}")
    return seeds, next(iter(objectives.values())), tuple(sorted(differing(rows)))


def _folder(options: Namespace) -> Path:
    """Where the comparison is kept: the folder that is asked for, or a new one."""
    if options.out:
        folder = Path(options.out)
        with as_wrong_input("cannot write the comparison: "):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    names = [recipes.name_of(recipes.locate(name)) for name in options.recipes]
    return new_folder(Path(options.runs) / (names[0] if len(names) == 1 else "compare"))


def _trained(runs: Sequence[Run], jobs: int, lines: RunLines) -> Iterator[tuple[Run, Result]]:
    """Runs with their results, as they come."""
    if jobs == 1:
        for run in runs:
            yield run, run.train(lines.tell if lines.is_live else None)
        return
    mail = multiprocessing.get_context("spawn").Queue() if lines.is_live else None
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def train(run: Run) -> Result:
        worker = idle.get()
        try:
            return worker.train(run)
        finally:
            idle.put(worker)

    with ExitStack() as stack:
        for _ in range(jobs):
            idle.put(stack.enter_context(_Worker(share_of_threads(jobs), mail)))
        threads = stack.enter_context(ThreadPoolExecutor(jobs))
        stack.callback(threads.shutdown, cancel_futures=True)  # leaving the pool alone would train all that wait
        futures = {threads.submit(train, run): run for run in runs}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, 0.2 if mail else None, FIRST_COMPLETED)
            if mail:
                lines.drain(mail)
            for future in done:
                yield futures[future], future.result()


@final
class _Worker(AbstractContextManager["_Worker"]):
    """A process that trains one run after another; where it is killed, the next run has a new one."""

    def __init__(self, threads: int, mail: Mail | None) -> None:
        self._threads, self._mail = threads, mail
        self._pool = self._started()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def train(self, run: Run) -> Result:
        """The result of a run, here or in the process."""
        try:
            return self._pool.submit(_train, run).result()
        except BrokenProcessPool:
            self._pool = self._started()
            return Result(run.variant, run.seed, "its process was killed; was there too little memory?")

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_worker, (self._threads, self._mail))


#: Where a worker tells how far it has come.
_mail: Mail | None = None


def _train(run: Run) -> Result:
    return run.train(_mail.put if _mail else None)


def _start_worker(threads: int, mail: Mail | None) -> None:
    global _mail  # noqa: PLW0603 - a queue reaches a process when that is started, and not with its work
    _mail = mail
    if mail:
        mail.cancel_join_thread()  # another that was killed while it wrote must not keep this one from its end
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
