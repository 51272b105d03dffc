"""Trains a network; logs, checkpoints and reports are kept in the folder of the run."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar

from unvanish.command import data_files
from unvanish.command.best import Best
from unvanish.command.checkpoint_file import CheckpointFiles
from unvanish.command.checkpoints import BEST, checkpoint_of, load_weights
from unvanish.command.endings import ending
from unvanish.command.experiment import Built, Experiment, has_test_split, has_validation_split
from unvanish.command.finite import IGNORE, STOP, FiniteSteps
from unvanish.command.fixes import change_of
from unvanish.command.hparams import HparamsRow, row, unusual
from unvanish.command.identity import identity_of
from unvanish.command.keeper import Keeper, Stopped
from unvanish.command.lean import Lean
from unvanish.command.processes import is_first, started_already
from unvanish.command.progress import EpochTable
from unvanish.command.recipes import CONFIG, Config
from unvanish.command.result import Result, versions
from unvanish.command.result_writer import ResultWriter
from unvanish.command.resumable import ResumeCheck
from unvanish.command.run_folder import write_text
from unvanish.command.run_logs import RunLogs, marks_of, told_once
from unvanish.command.scores import KeptScores
from unvanish.command.threads import choose_threads
from unvanish.gradients import Report


class Run(NamedTuple):
    """A finished training run.

    Args:
        trainer: The trainer, which still holds the network and the data.
        best: The callback that kept the best checkpoint, by its ``monitor``.
        report: The gradient report; empty if gradients were not recorded.
        seconds: Duration of the training.
        skipped: Number of steps that were skipped because their loss or gradient was not finite.
        stopped_early: Whether early stopping ended it.
    """

    trainer: L.Trainer
    best: Best
    report: Report
    seconds: float
    skipped: int = 0
    stopped_early: bool = False


class Keeping(NamedTuple):
    """When checkpoints are written, and what is done about non-finite numbers.

    Args:
        minutes: Longest time between two checkpoints.
        on_nonfinite: stop, skip or ignore: what is done at a loss or gradient that is NaN or infinite.
        goes_on: Whether the run in the folder is resumed.
    """

    minutes: float = 5.0
    on_nonfinite: str = STOP
    goes_on: bool = False


def train(
    experiment: Experiment,
    built: Built,
    folder: Path,
    gradients: bool = True,
    *,
    tests: bool = False,
    keeping: Keeping | None = None,
    ckpt_path: Path | None = None,
    differing: Collection[str] = (),
) -> Run:
    """Train a network. Logs, checkpoints and reports go to ``folder``; the number of threads may change.

    Args:
        experiment: The recipe and its arguments.
        built: Its network and data.
        folder: The run's folder; it is new, or holds the run that is resumed.
        gradients: Whether to record gradients.
        tests: Whether to test the best checkpoint at the end, if there is a test split.
        keeping: When checkpoints are written.
        ckpt_path: A checkpoint of the same network to go on from.
        differing: Columns of the HPARAMS page in which the run differs from others; empty if not known.

    Raises:
        WrongInputError: the trainer refuses its arguments or the checkpoint; a new folder is removed again.
        FailedError: the loss or a gradient is not finite, or the disk is full.
        StoppedError: it was told to stop.
    """
    model, data, options, monitor, said = built
    keeping = keeping or Keeping()
    monitor.change_of = change_of(model.hparams, options["gradient_clip_val"], _steps(options, data))
    objective = model.objective
    best = Best(folder / "checkpoints", BEST.removesuffix(".ckpt"), f"val/{objective.metric}", mode=objective.mode)
    has_own_bar = any(isinstance(callback, ProgressBar) for callback in options["callbacks"])
    shows_table = not has_own_bar and options["enable_progress_bar"] is not False
    identity, config = identity_of(data), experiment.resolved()
    logs = RunLogs(folder, *(marks_of(ckpt_path, identity) if keeping.goes_on and ckpt_path else ()))
    if is_first() and not logs.goes_on:
        write_text(folder / CONFIG, config)
        data_files.keep(experiment.arguments.get("data.path"), data, said, folder)
    writer = ResultWriter(folder, _known(experiment, built, identity), monitor)
    _fill_in(options, logs, data, has_bar=shows_table or has_own_bar)
    keeps = options["enable_checkpointing"] is not False
    has_best = keeps and options["limit_val_batches"] != 0
    # Lightning would add a checkpoint of its own where it sees none.
    options["enable_checkpointing"] = has_best or any(isinstance(c, Checkpoint) for c in options["callbacks"])
    keeper = Keeper(
        folder,
        logs,
        minutes=keeping.minutes,
        keeps=keeps,
        identity=identity,
        keeps_broken=keeping.on_nonfinite == IGNORE,
        config=config,
    )
    finite = FiniteSteps(keeping.on_nonfinite, monitor)
    finite.restore_buffers = keeper.restore_buffers
    callbacks = [
        keeper,  # before all others: what they do in a step is not done yet when it is kept
        *([monitor] if gradients else []),
        *([finite] if keeping.on_nonfinite != IGNORE else []),
        *([LearningRateMonitor("step")] if options["logger"] and not model.settings.schedule.is_constant else []),
        *([EpochTable(monitor, objective)] if shows_table else []),
        HparamsRow(row(experiment), differing or unusual(experiment), best, monitor),
        writer,
        KeptScores(folder, best, getattr(data, "class_names", None)),
        *([best] if has_best else []),
        Lean(),
        *options["callbacks"],
        ResumeCheck(folder if logs.goes_on else None),
    ]
    trainer: L.Trainer | None = None
    start = time.perf_counter()
    try:
        trainer = L.Trainer(**options | {"callbacks": callbacks})
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFiles()
        if threads := choose_threads(trainer, model, data):
            print(threads)
        L.seed_everything(experiment.arguments.seed, workers=True, verbose=False)
        with told_once(), keeper.listening():
            trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
            if keeper.signum is not None:  # it came too late to stop anything, and is obeyed all the same
                raise Stopped
            if gradients and monitor.report.failure is not None:
                raise monitor.report.failure
        seconds = time.perf_counter() - start
        tested = _tested(trainer, built, keeper.folder) if tests else {}
    except BaseException as error:
        told = ending(error, keeper, trainer, monitor.report if gradients else Report(), ckpt_path)
        writer.ended_by(told)
        if told is error:
            raise
        raise told from error
    writer.finished(tested)
    stopped_early = any(callback.stopped_epoch for callback in trainer.early_stopping_callbacks)
    return Run(trainer, best, monitor.report, seconds, finite.skipped, stopped_early)


def _fill_in(options: Config, logs: RunLogs, data: L.LightningDataModule, *, has_bar: bool) -> None:
    """Fill in the trainer's options that the recipe leaves open."""
    defaults = {
        "logger": [logs.events, logs.table],
        "default_root_dir": logs.folder,
        "enable_progress_bar": has_bar,
        "enable_model_summary": False,
        "log_every_n_steps": _log_interval(options, data),
    }
    options |= {key: value for key, value in defaults.items() if options[key] is None}
    if options["devices"] == "auto" and options["num_nodes"] == 1:
        options |= started_already()
    if not has_validation_split(data):
        options["limit_val_batches"] = 0


def _known(experiment: Experiment, built: Built, identity: str) -> Result:
    """The part of a result that is known before the first step."""
    objective = built.model.objective
    return Result(
        experiment.recipe.name,
        experiment.arguments.seed,
        metric=objective.metric,
        mode=objective.mode,
        parameters=sum(p.numel() for p in built.model.parameters() if p.requires_grad),
        data=identity,
        versions=versions(),
    )


def _tested(trainer: L.Trainer, built: Built, folder: Path) -> dict[str, float]:
    """The metrics on the test split of the best checkpoint, or of the last weights if there is no checkpoint."""
    if not has_test_split(built.data):
        return {}
    if any(folder.glob("checkpoints/*.ckpt")):
        load_weights(checkpoint_of(folder), built.model)
    (metrics,) = trainer.test(built.model, built.data, verbose=False)
    return {name: float(value) for name, value in metrics.items()}


def _log_interval(options: Config, data: L.LightningDataModule) -> int:
    """Steps between two points of a curve: Lightning's 50, or fewer so that short epochs get points as well."""
    steps = _steps_of_epoch(options, data)
    if steps is None:
        return 50
    if options["max_steps"] > 0:
        steps = min(steps, options["max_steps"])
    return max(1, min(50, steps // 4))


def _steps_of_epoch(options: Config, data: L.LightningDataModule) -> int | None:
    try:
        steps: int = len(data.train_dataloader()) // options["accumulate_grad_batches"]
    except TypeError:  # its length is not known
        return None
    return steps


def _steps(options: Config, data: L.LightningDataModule) -> int:
    """The number of optimizer steps of the training; without a limit, those of Lightning's default of 1,000 epochs."""
    epochs = options["max_epochs"] if options["max_epochs"] is not None else 1000
    known = [options["max_steps"], (_steps_of_epoch(options, data) or 0) * epochs]
    return min((steps for steps in known if steps > 0), default=0)
