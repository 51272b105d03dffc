"""Finds the run to resume, and the checkpoint to resume it from."""

from pathlib import Path
from typing import NamedTuple

import yaml

from unvanish.command.checkpoints import BEST, LAST, newest_run
from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import BATCH_SIZE, CONFIG, Config, flat, read
from unvanish.command.run_folder import is_marked, numbered

#: Settings that may differ in a resumed run, as they do not change what it has computed so far.
_FREE = {
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "enable_progress_bar", "enable_model_summary"),
    *("profiler", "log_every_n_steps", "enable_checkpointing", "logger"),
    *("accelerator", "devices", "num_nodes", "strategy"),
}


class Start(NamedTuple):
    """Where a run starts.

    Args:
        folder: The run that is resumed; None for a new one.
        checkpoint: The one to start from; None to start from scratch.
        step: The checkpoint's step.
    """

    folder: Path | None
    checkpoint: Path | None
    step: int = 0

    def __str__(self) -> str:
        return f", from step {self.step} of {self.checkpoint}" if self.checkpoint else ""


def resumed(experiment: Experiment, runs: Path, checkpoint: Path | None) -> Start:
    """The newest run of a recipe that has the same configuration, with its last checkpoint.

    Args:
        experiment: The recipe; if it is the config.yaml of a run, that run is resumed.
        runs: The folder of all runs.
        checkpoint: The checkpoint to resume from, which must lie in its run's folder; None for the last one.

    Raises:
        WrongInputError: there is no such run, or all have another configuration.
    """
    if checkpoint is not None:
        folder = checkpoint.absolute().parents[1]
        if not is_marked(folder):
            raise WrongInputError(f"{checkpoint} is in no run's folder: without --resume a new run starts from it")
        candidates = [folder]
    elif experiment.recipe.paths[0].name == CONFIG and is_marked(experiment.recipe.paths[0].parent):
        candidates = [experiment.recipe.paths[0].parent]
        if not any(candidates[0].glob("checkpoints/*.ckpt")):  # planned by a comparison, or killed early: it begins
            return Start(candidates[0], None)
    else:
        parent = runs / experiment.recipe.name
        newest_run(parent)  # says so where there is none
        candidates = [path for path in reversed(numbered(parent)) if any(path.glob("checkpoints/*.ckpt"))]
    differences = [_difference(candidate, experiment) for candidate in candidates]
    for candidate, difference in zip(candidates, differences, strict=True):
        if not difference:
            return Start(candidate, checkpoint or _last(candidate))
    raise WrongInputError(
        f"{candidates[0]} is configured otherwise: {differences[0]}; without --resume a new run starts"
    )


def _last(folder: Path) -> Path:
    """The last checkpoint of a run, or its best if there is no last one."""
    found = [folder / "checkpoints" / name for name in (LAST, BEST)]
    there = next((path for path in found if path.is_file()), None)
    if there is None:
        raise WrongInputError(f"{folder} has no checkpoint yet: without --resume a new run starts")
    return there


def _difference(folder: Path, experiment: Experiment) -> str:
    """The first setting in which a run's configuration differs; empty if none does."""
    there, here = _fixed(read(folder / CONFIG)), _fixed(yaml.safe_load(experiment.resolved()))
    for key in {**here, **there}:
        if there.get(key) != here.get(key):
            return f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
    return ""


def _fixed(config: Config) -> Config:
    whole = {key: value for key, value in flat(config).items() if key not in ("name", "gradients.verbose", BATCH_SIZE)}
    return {key: value for key, value in whole.items() if key.removeprefix("trainer.") not in _FREE}
