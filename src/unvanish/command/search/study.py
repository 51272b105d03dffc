"""``unvanish search``: the best values of a recipe's keys, by Optuna. Each trial is a fit that findings may stop."""

import json
import logging
import math
import shlex
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from unvanish.command import recipes
from unvanish.command.compare import local
from unvanish.command.compare.runs import Run, parse
from unvanish.command.compare.task import Task
from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import flat
from unvanish.command.result import FINISHED, PRUNED, Result
from unvanish.command.run_folder import new_folder, write_text
from unvanish.command.search.picture import picture
from unvanish.command.search.pruners import STARTUP, WARMUP, MedianPruner, VerdictPruner
from unvanish.command.search.space import Space, space_of, suggested
from unvanish.command.stopping import terminable
from unvanish.command.terminal import say
from unvanish.command.threads import share_of_threads
from unvanish.gradients.judge.diagnosis import table
from unvanish.training.metrics import Objective

#: The study's files: what Optuna writes line by line, the table, the picture, and the best as a recipe.
JOURNAL, TABLE, PICTURE, BEST = "journal.log", "trials.csv", "search.png", "best.yaml"
_SHOWN = 5
#: The study's attribute that has what it is a search of.
_ASKED = "asked"


def open_study(folder: Path, **options: Any) -> Any:
    """The study that a folder keeps; a new one where it keeps none.

    Args:
        folder: The study's.
        options: Of ``optuna.create_study``.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(folder / JOURNAL)
    # A lock that a killed process has left is taken over after its grace period.
    lock = JournalFileOpenLock(path, grace_period=10)
    storage = optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=lock))
    return optuna.create_study(storage=storage, study_name="search", load_if_exists=True, **options)


def search(options: Namespace, overrides: list[str]) -> int:
    """Run a study's trials, as many as there are not yet; 1 where none has come to its end."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise WrongInputError("search needs Optuna: pip install 'unvanish[search]'") from error
    for name, value in (("--trials", options.trials), ("--jobs", options.jobs)):
        if value < 1:
            raise WrongInputError(f"{name} is {value}; it must be at least 1")
    logging.getLogger("unvanish").setLevel(logging.WARNING)
    recipe = recipes.load(options.config, options.variant)
    space = space_of(options.space, options.set)
    first = {key: choice[0] if isinstance(choice, list) else choice.low for key, choice in space.items()}
    experiment = _experiment(recipe, overrides, first)
    for key, choice in space.items():
        for value in choice[1:] if isinstance(choice, list) else (choice.high,):
            _experiment(recipe, overrides, first | {key: value})  # one that is refused ends no search half way
    objective = experiment.build().model.objective
    folder = _folder(options, recipe.name)
    direction = "maximize" if objective.mode == "max" else "minimize"
    study = open_study(folder, direction=direction)
    kind = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[options.sampler]
    _check_same(study, experiment.resolved(), space, folder)
    study.sampler = kind(seed=options.seed + len(study.trials))  # one that goes on draws other numbers
    done = sum(trial.state.is_finished() for trial in study.trials)
    say(f"{options.trials} trials, {done} of them there already; if interrupted, go on with --out {folder}")
    with terminable(options, folder):
        _run(study, recipe, overrides, space, objective, options, folder)
    return _conclude(study, space, objective, folder)


def _run(
    study: Any,
    recipe: recipes.Recipe,
    overrides: list[str],
    space: Space,
    objective: Objective,
    options: Namespace,
    folder: Path,
) -> None:
    """Train what is missing."""
    import optuna

    running = optuna.trial.TrialState.RUNNING
    waiting = [optuna.trial.Trial(study, trial._trial_id) for trial in study.trials if trial.state == running]
    trials: dict[Path, tuple[Any, Run]] = {}
    threads = share_of_threads(options.jobs)

    def pruner(number: int) -> tuple[Any, ...]:
        of = folder.absolute(), number, objective.metric
        if options.pruner == "median":
            return (MedianPruner(*of),)
        # What is ill is stopped at once, so that few are left to be compared, and those not before they are under way.
        return (VerdictPruner(), MedianPruner(*of, STARTUP, WARMUP)) if options.pruner == "verdict" else ()

    def tasks() -> Iterator[Task]:
        while waiting or len(study.trials) < options.trials:
            trial = waiting.pop(0) if waiting else study.ask()  # one that was killed goes on
            config = _experiment(recipe, overrides, suggested(trial, space)).resolved()
            run = Run(f"trial {trial.number}", 0, folder / "trials" / f"{trial.number:04}", config)
            run.prepare()
            watched = {"callbacks": pruner(trial.number), "tests": False}
            task = Task.of(run.folder, threads, tuple(space), **watched)
            trials[task.folder] = trial, run
            yield task

    for task, code in local.launch(tasks(), options.jobs):
        trial, run = trials[task.folder]
        result = run.result if run.is_there else Result("", 0, error=task.why(code))
        error = result.error or (task.why(code) if code else "")
        for name, value in (("seconds", result.seconds), ("steps", result.steps), ("why", error)):
            trial.set_user_attr(name, value)
        # A run that has diverged tells the sampler something; one that has crashed does not.
        is_bad = result.state == PRUNED or any(finding["name"] == "nan" for finding in result.findings)
        if result.state == FINISHED and not math.isnan(result.validation):
            study.tell(trial, result.validation)
            told = f"validation {objective.metric} {result.validation:.4f}"
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED if is_bad else optuna.trial.TrialState.FAIL)
            told = error or "it was not validated"
        values = ", ".join(f"{key.rpartition('.')[2]} {_short(value)}" for key, value in trial.params.items())
        say(f"{trial.number + 1}/{options.trials} {values}: {told}")


def _check_same(study: Any, config: str, space: Space, folder: Path) -> None:
    """Refuse to go on with a study of other keys: its trials are not to be compared with those to come."""
    asked = {key: str(value) for key, value in (flat(yaml.safe_load(config)) | space).items() if key != "name"}
    if not study.trials:
        study.set_user_attr(_ASKED, asked)
    if (there := study.user_attrs.get(_ASKED)) is None:
        raise WrongInputError(
            f"{folder} is of an earlier version, and does not say what it searches; --out names a new one"
        )
    for key in {**there, **asked}:
        if there.get(key) != asked.get(key):
            what = f"is a search with {key} {there.get(key)}, and here it is {asked.get(key)}"
            raise WrongInputError(f"{folder} {what}; --out names a new folder")


def _experiment(recipe: recipes.Recipe, overrides: list[str], values: dict[str, Any]) -> Experiment:
    typed = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    return parse(recipe, [*overrides, *typed])


def _folder(options: Namespace, name: str) -> Path:
    if not options.out:
        return new_folder(Path(options.runs) / "search" / name)
    folder = Path(options.out)
    with as_wrong_input("cannot write the study: "):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _conclude(study: Any, space: Space, objective: Objective, folder: Path) -> int:
    """Print and keep the table, the picture and the best as a recipe."""
    trials = study.trials
    frame = study.trials_dataframe(attrs=("number", "value", "state", "params", "user_attrs"))
    write_text(folder / TABLE, frame.to_csv(index=False))
    (folder / PICTURE).write_bytes(picture(trials, [*space], objective))
    complete = sorted(
        (trial for trial in trials if trial.value is not None and trial.state.name == "COMPLETE"),
        key=lambda trial: trial.value,
        reverse=objective.mode == "max",
    )
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    if not complete:
        why = [trial.user_attrs.get("why", "") for trial in (*pruned, *failed)]
        say(f"no trial has come to its end; the first of them: {why[0] if why else 'there is none'}")
        return 1
    heads = [f"validation {objective.metric}", "trial", *(key.rpartition(".")[2] for key in space), "seconds"]
    rows = [
        [
            f"{trial.value:.4f}",
            str(trial.number),
            *(_short(trial.params[key]) for key in space),
            f"{trial.user_attrs.get('seconds', 0):.1f}",
        ]
        for trial in complete[:_SHOWN]
    ]
    print(f"\n{table(heads, rows)}\n")
    seconds = sum(trial.user_attrs.get("seconds", 0) for trial in trials)
    counts = f"{len(complete)} trials to the end, {len(pruned)} pruned, {len(failed)} failed"
    say(f"{counts}; {seconds:.0f} s of training")
    config = recipes.read(folder / "trials" / f"{complete[0].number:04}" / recipes.CONFIG)
    config["name"] = f"{config['name']}/best"
    write_text(folder / BEST, yaml.safe_dump(config, sort_keys=False))
    how = f"unvanish fit {shlex.quote(str(folder / BEST))}"
    say(f"kept in {folder}: {TABLE}, {PICTURE}, and the best as a recipe: {how}")
    return 0


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
