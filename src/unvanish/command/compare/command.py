"""``unvanish compare``: variants of recipes on the same data from the same seeds, and runs that are there already."""

import logging
import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from unvanish import page
from unvanish.command import recipes
from unvanish.command.compare import local, on_ray
from unvanish.command.compare.comparison import Comparison, Kept, common_objective
from unvanish.command.compare.figure import figure
from unvanish.command.compare.lines import RunLines
from unvanish.command.compare.pictures import to_tensorboard
from unvanish.command.compare.report import map_of, write_page
from unvanish.command.compare.runs import Run, parse, runs_below
from unvanish.command.compare.task import Task
from unvanish.command.compare.view import differences, view
from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.hparams import differing, row
from unvanish.command.result import FAILED, Result
from unvanish.command.run_folder import check_replaceable, new_folder
from unvanish.command.stopping import terminable
from unvanish.command.terminal import console, say, table_width, tensorboard
from unvanish.command.threads import share_of_threads


def compare(options: Namespace, overrides: list[str]) -> int:
    """Train every variant with every seed, test it, and print one table; 1 where a run has failed."""
    comparison = compared(options, overrides)
    _show(comparison)
    folder = comparison.folder
    say(f"\nkept as comparison.md, .csv and .json in {folder}")
    drawn = {"comparison": figure(comparison), "comparison_map": map_of(comparison)}
    pictures = {name: png for name, png in drawn.items() if png}
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    if pictures:
        say(f"drawn as {' and '.join(f'{name}.png' for name in pictures)} there")
    if write_page(comparison):
        say(f"gradients, all runs on one scale: {folder / page.REPORT}")
    if any(folder.rglob("events.out.tfevents.*")):
        to_tensorboard(pictures, int(comparison.runs["steps"].max()), folder)
        say(f"next: {tensorboard(folder)}")
    return int(any(comparison.runs["error"]))


def compared(options: Namespace, overrides: list[str]) -> Comparison:
    """Train what is not there yet, and set all runs side by side."""
    for name, value in (("--seeds", options.seeds), ("--jobs", options.jobs)):
        if value is not None and value < 1:
            raise WrongInputError(f"{name} is {value}; it must be at least 1")
    if options.launcher == "ray":
        on_ray.installed()  # before anything is made
    elif options.address:
        raise WrongInputError(f"--address {options.address} is of a Ray cluster: say --launcher ray as well")
    folders = [name for name in options.recipes if Path(name).is_dir()]
    names = [name for name in options.recipes if name not in folders]
    if folders and not names and (overrides or options.set or options.seeds > 1):
        raise WrongInputError("runs that are there already are compared as they are, without keys, --set and --seeds")
    there = runs_below(folders)
    chosen = recipes.side_by_side(names, options.set)
    target = recipes.target_of(names) if options.target is None else options.target
    planned, columns = _planned(chosen, overrides, options.seeds)
    folder = _folder(options, names)
    runs = [*there, *(replace(run, folder=folder / run.folder) for run in planned)]
    results = _trained(runs, columns, options, folder)
    comparison = Comparison([Kept(run, results[run.folder]) for run in runs], target, folder)
    comparison.save()
    return comparison


def _trained(runs: Sequence[Run], columns: tuple[str, ...], options: Namespace, folder: Path) -> dict[Path, Result]:
    """The results of all runs, when those have been trained that are not there."""
    folders = {run.folder for run in runs}
    for run in runs:
        if folders.intersection(run.folder.parents):
            raise WrongInputError(f"{run.variant} would be kept in the folder of another run, which may be removed")
    results = {run.folder: run.result for run in runs if run.is_done}
    if len(results) == len(runs):
        return results
    waiting = {run.folder.absolute(): run for run in runs if run.folder not in results}
    for run in waiting.values():
        check_replaceable(run.folder)
    there = f", {len(results)} of them there already" if results else ""
    if changed := sum(run.is_replaced for run in waiting.values()):
        there += f", {changed} there of another configuration, which are trained anew"
    variants = len({run.variant for run in runs})
    say(f"{len(runs)} runs of {variants} variants{there}; if interrupted, go on with --out {folder}")
    lines = RunLines({path: run.label for path, run in waiting.items()}, len(results))
    threads = share_of_threads(options.jobs or 1)

    def tasks() -> Iterator[Task]:
        for run in waiting.values():
            run.prepare()
            yield Task.of(run.folder, threads, columns)

    with lines.shown(), terminable(options, folder):
        if options.launcher == "ray":
            ended = on_ray.launch(tasks(), options.jobs, address=options.address)
        else:
            ended = local.launch(tasks(), options.jobs or 1, lines.tell if lines.is_live else None)
        for task, code in ended:
            run = waiting[task.folder]
            result = run.result
            if code and (result.state != FAILED or not run.is_there):
                result = replace(result, error=task.why(code))
            results[run.folder] = result
            lines.finished(task.folder)
            say(f"{len(results)}/{len(runs)} {_line(run, result)}", lines.console)
    return results


def _show(comparison: Comparison) -> None:
    where = console()
    width = table_width(where)
    shown = view(comparison, width, where.encoding)
    where.print()
    for index, line in enumerate(shown.lines):
        style = "bold" if index == 0 else "green" if index in shown.best else ""
        where.print(Text(line, style), soft_wrap=True)
    where.print()
    for note in shown.notes:
        say(note, where)
    if found := comparison.findings():
        where.print()
        for name, lines in found.items():
            for line in lines:
                say(f"{name}: {line}", where)
    if keys := differences(comparison, width, where.encoding):
        where.print()
        for line in keys:
            where.print(Text(line), soft_wrap=True)


def _planned(chosen: dict[str, recipes.Recipe], overrides: list[str], seeds: int) -> tuple[list[Run], tuple[str, ...]]:
    """The runs that recipes ask for, their folders relative to the comparison's, and in what the variants differ.

    A mistake in any shows before the first is trained. They are in the order of their seeds, so that what is there
    after a while is a comparison.
    """
    logging.getLogger("unvanish").setLevel(logging.WARNING)  # each of many networks would say how it is initialized
    experiments, rows, objectives = {}, [], {}
    for name, recipe in chosen.items():
        experiments[name] = parse(recipe, overrides)
        rows.append(row(experiments[name]))
        objectives[name] = experiments[name].build().model.objective
    common_objective(objectives)
    runs = []
    for index in range(seeds):
        for name, recipe in chosen.items():
            seed = experiments[name].arguments.seed + index
            config = experiments[name] if not index else parse(recipe, [*overrides, f"--seed={seed}"])
            runs.append(Run(name, seed, Path(name) / f"seed{seed}", config.resolved()))
    return runs, tuple(sorted(differing(rows)))


def _folder(options: Namespace, names: Sequence[str]) -> Path:
    """Where the comparison is kept: the folder that is asked for, or a new one."""
    if options.out:
        folder = Path(options.out)
        with as_wrong_input("cannot write the comparison: "):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    found = [recipes.name_of(recipes.locate(name)) for name in names]
    return new_folder(Path(options.runs) / (found[0] if len(found) == len(options.recipes) == 1 else "compare"))


def _line(run: Run, result: Result) -> str:
    if result.error:
        return f"{run.label}: failed: {result.error}"
    both = {"test": result.test, "validation": result.validation}
    scores = [f"{name} {result.metric} {value:.4f}" for name, value in both.items() if not math.isnan(value)]
    return f"{run.label}: {', '.join([*scores, result.verdict, f'{result.seconds:.0f} s'])}"
