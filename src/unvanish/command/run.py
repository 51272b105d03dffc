"""A training run, and the folder that keeps it."""

import math
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, final

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from unvanish.command.best import Best
from unvanish.command.checkpoint_file import CheckpointFiles
from unvanish.command.checkpoints import BEST
from unvanish.command.endings import ending
from unvanish.command.errors import StoppedError
from unvanish.command.experiment import Built, Experiment
from unvanish.command.finite import IGNORE, STOP, FiniteSteps
from unvanish.command.identity import identity_of
from unvanish.command.keeper import Keeper, Stopped
from unvanish.command.recipes import Config
from unvanish.command.run_folder import write_text
from unvanish.command.run_logs import RunLogs, marks_of, told_once
from unvanish.command.threads import choose_threads
from unvanish.data import InMemoryData
from unvanish.gradients import GradientMonitor, Report
from unvanish.training import OBJECTIVES

CONFIG = "config.yaml"


class Run(NamedTuple):
    """A finished training run.

    Args:
        trainer: With the network and the data still in it.
        best: The callback that kept the best checkpoint, by its ``monitor``.
        report: What the gradients did; empty where they were not recorded.
        seconds: Time that the training took.
        skipped: Steps that were skipped as their loss or gradient was not finite.
    """

    trainer: L.Trainer
    best: ModelCheckpoint
    report: Report
    seconds: float
    skipped: int = 0


class Keeping(NamedTuple):
    """How a run is kept from being lost.

    Args:
        minutes: Longest time between two checkpoints.
        on_nonfinite: stop, skip or ignore: what is done at a loss or gradient that is NaN or infinite.
        goes_on: Whether the folder holds the run that goes on.
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
    quiet: bool = False,
    keeping: Keeping | None = None,
    ckpt_path: Path | None = None,
) -> Run:
    """Fit a network; its logs, checkpoints and reports go to ``folder``. The number of threads may change.

    Args:
        experiment: What is trained.
        built: Its network and data.
        folder: A run's folder: with nothing but its marker in it, or with the run that goes on.
        gradients: Whether to record them.
        quiet: Whether to print nothing, and to leave it to others to listen to signals.
        keeping: When checkpoints are written.
        ckpt_path: A checkpoint of the same network to go on from.

    Raises:
        WrongInputError: the trainer refuses its arguments, or the checkpoint; a new folder is gone again.
        FailedError: the loss or a gradient is not finite, or the disk is full.
        StoppedError: it was told to stop.
    """
    model, data, options, monitor = built
    keeping = keeping or Keeping()
    monitor.verbose = monitor.verbose and not quiet
    objective = OBJECTIVES[model.settings.task]
    best = Best(folder / "checkpoints", BEST.removesuffix(".ckpt"), f"val/{objective.metric}", mode=objective.mode)
    on_terminal = sys.stdout.isatty() and not quiet
    identity = identity_of(data)
    logs = RunLogs(folder, *(marks_of(ckpt_path, identity) if keeping.goes_on and ckpt_path else ()))
    write_text(folder / CONFIG, experiment.resolved())
    defaults = {
        "logger": [logs.events, logs.table],
        "default_root_dir": folder,
        "enable_progress_bar": on_terminal,
        "enable_model_summary": False,
        "log_every_n_steps": _log_interval(options, data),
    }
    options |= {key: value for key, value in defaults.items() if options[key] is None}
    if not has_validation_split(data):
        options["limit_val_batches"] = 0
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
    )
    finite = FiniteSteps(keeping.on_nonfinite, monitor)
    finite.restore_buffers = keeper.restore_buffers
    callbacks = [
        keeper,  # before all others: what they do in a step is not done yet when it is kept
        *([monitor] if gradients else []),
        *([finite] if keeping.on_nonfinite != IGNORE else []),
        *([LearningRateMonitor("step")] if options["logger"] and not model.settings.schedule.is_constant else []),
        *([] if quiet or on_terminal else [EpochLines()]),
        HparamsRow(_row(experiment), best, monitor),
        *([best] if has_best else []),
        *options["callbacks"],
    ]
    trainer: L.Trainer | None = None
    start = time.perf_counter()
    try:
        trainer = L.Trainer(**options | {"callbacks": callbacks})
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFiles()
        if (threads := choose_threads(trainer, model, data)) and not quiet:
            print(threads)
        L.seed_everything(experiment.arguments.seed, workers=True, verbose=False)
        with told_once(), nullcontext() if quiet else keeper.listening():
            trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
            if keeper.signum is not None:  # it came too late to stop anything, and is obeyed all the same
                raise Stopped
    except BaseException as error:
        told = ending(error, keeper, trainer, monitor.report if gradients else Report(), ckpt_path)
        if told is error:
            raise
        if quiet and isinstance(told, StoppedError):
            raise SystemExit(128 + told.signum) if told.signum == signal.SIGTERM else KeyboardInterrupt from error
        raise told from error
    if gradients and monitor.report.failure is not None:
        raise ending(monitor.report.failure, keeper, trainer, monitor.report, ckpt_path)
    return Run(trainer, best, monitor.report, time.perf_counter() - start, finite.skipped)


def has_validation_split(data: L.LightningDataModule) -> bool:
    """Whether there is anything to validate on."""
    if isinstance(data, InMemoryData):
        return bool(data.splits.validation)
    return is_overridden("val_dataloader", data)


def has_test_split(data: L.LightningDataModule) -> bool:
    """Whether there is anything to test on."""
    if isinstance(data, InMemoryData):
        return bool(data.splits.test)
    return is_overridden("test_dataloader", data)


def _log_interval(options: Config, data: L.LightningDataModule) -> int:
    """Steps between two points of a curve: Lightning's 50, which leaves that of a short epoch empty, or fewer."""
    try:
        steps: int = len(data.train_dataloader()) // options["accumulate_grad_batches"]
    except TypeError:  # its length is not known
        return 50
    if options["max_steps"] > 0:
        steps = min(steps, options["max_steps"])
    return max(1, min(50, steps // 4))


def _score(best: ModelCheckpoint) -> float:
    return math.nan if best.best_model_score is None else float(best.best_model_score)


def _row(experiment: Experiment) -> Config:
    """What tells runs apart, short enough to read: names and numbers, no nesting."""
    arguments = experiment.arguments
    optimizer = arguments.model.training.optimizer
    return {
        "recipe": experiment.recipe.name,
        "seed": arguments.seed,
        **{key: str(value) for key, value in vars(arguments.model).items() if key != "training"},
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
    }


@final
class HparamsRow(L.Callback):
    """A run's row on TensorBoard's HPARAMS page: how it was set up and what came of it."""

    def __init__(self, row: Config, best: ModelCheckpoint, monitor: GradientMonitor) -> None:
        self.row, self.best, self.monitor = row, best, monitor

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the run is set up; a logger would keep an empty hparams.yaml otherwise."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self.row)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row."""
        outcome = {"hparams/best_" + str(self.best.monitor).replace("/", "_"): _score(self.best)}
        if self.monitor.report.steps:
            outcome["hparams/first_over_last_at_end"] = self.monitor.report.end.first_over_last
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.row, outcome, trainer.global_step)


@final
class EpochLines(L.Callback):
    """One line an epoch, but not more than one a second, where there is no terminal for a progress bar."""

    def __init__(self) -> None:
        self._printed = 0.0
        self._line = ""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's metrics."""
        values = trainer.callback_metrics.items()
        metrics = "  ".join(f"{name} {value:.4g}" for name, value in values if "learning_rate" not in name)
        self._line = f"epoch {trainer.current_epoch + 1}  {metrics}"
        if time.monotonic() - self._printed >= 1:
            self._print()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last epoch's, if that has not been done."""
        self._print()

    def _print(self) -> None:
        if self._line:
            print(self._line, flush=True)
        self._line, self._printed = "", time.monotonic()
