"""A training run, and the folder that keeps it."""

import signal
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, final

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from unvanish.command.checkpoints import BEST, LAST
from unvanish.command.errors import as_wrong_input
from unvanish.command.experiment import Built, Experiment
from unvanish.command.fixes import change_of
from unvanish.command.hparams import HparamsRow, row, unusual
from unvanish.command.progress import EpochTable
from unvanish.command.recipes import Config
from unvanish.command.run_folder import remove
from unvanish.command.threads import choose_threads
from unvanish.data import InMemoryData
from unvanish.gradients import Report
from unvanish.training import OBJECTIVES

CONFIG = "config.yaml"


class Run(NamedTuple):
    """A finished training run.

    Args:
        trainer: With the network and the data still in it.
        best: The callback that kept the best checkpoint, by its ``monitor``.
        report: What the gradients did; empty where they were not recorded.
        seconds: Time that the training took.
    """

    trainer: L.Trainer
    best: ModelCheckpoint
    report: Report
    seconds: float


def train(
    experiment: Experiment,
    built: Built,
    folder: Path,
    *,
    gradients: bool,
    quiet: bool,
    ckpt_path: Path | None = None,
    differing: Collection[str] = (),
) -> Run:
    """Fit a network; its logs, checkpoints and reports go to ``folder``. The number of threads may change.

    Args:
        experiment: What is trained.
        built: Its network and data.
        folder: A run's folder, with nothing but its marker in it.
        gradients: Whether to record them.
        quiet: Whether to print nothing.
        ckpt_path: A checkpoint of the same network to go on from.
        differing: In which columns of the HPARAMS page it differs from those beside it; what is unusual where empty.

    Raises:
        WrongInputError: the trainer refuses its arguments; the folder is gone again.
    """
    model, data, options, monitor = built
    monitor.verbose = monitor.verbose and not quiet
    monitor.change_of = change_of(model.hparams, options["gradient_clip_val"], _steps(options, data))
    objective = OBJECTIVES[model.settings.task]
    checkpoints = folder / "checkpoints"
    best = LaterBest(checkpoints, BEST.removesuffix(".ckpt"), f"val/{objective.metric}", mode=objective.mode)
    # save_last of the first would copy the best checkpoint, not the last.
    last = ModelCheckpoint(checkpoints, LAST.removesuffix(".ckpt"), save_on_train_epoch_end=True)
    has_own_bar = any(isinstance(callback, ProgressBar) for callback in options["callbacks"])
    shows_table = not quiet and not has_own_bar and options["enable_progress_bar"] is not False
    table = CSVLogger(folder.parent, "", folder.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Experiment logs directory .* exists")  # with nothing but a marker in it
        _ = table.experiment
    (folder / CONFIG).write_text(experiment.resolved(), encoding="utf-8")
    defaults = {
        "logger": [TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False), table],
        "default_root_dir": folder,
        "enable_progress_bar": shows_table or has_own_bar,
        "enable_model_summary": False,
        "log_every_n_steps": _log_interval(options, data),
    }
    options |= {key: value for key, value in defaults.items() if options[key] is None}
    if not has_validation_split(data):
        options["limit_val_batches"] = 0
    keeps = options["enable_checkpointing"] is not False
    callbacks = [
        *([monitor] if gradients else []),
        *([LearningRateMonitor("step")] if options["logger"] and not model.settings.schedule.is_constant else []),
        *([EpochTable(monitor, objective)] if shows_table else []),
        HparamsRow(row(experiment), differing or unusual(experiment), best, monitor),
        *([last] if keeps else []),
        *([best] if keeps and options["limit_val_batches"] != 0 else []),
        *options["callbacks"],
    ]
    trainer: L.Trainer | None = None
    try:
        trainer = L.Trainer(**options | {"callbacks": callbacks})
        if (threads := choose_threads(trainer, model, data)) and not quiet:
            print(threads)
        L.seed_everything(experiment.arguments.seed, workers=True, verbose=False)
        start = time.perf_counter()
        trainer.fit(model, data, ckpt_path=ckpt_path)
    except SystemExit as error:
        # Lightning leaves with 0 when it is told to terminate.
        raise SystemExit(128 + signal.SIGTERM if trainer and trainer.received_sigterm else error.code) from error
    except Exception:
        if trainer is not None and trainer.global_step:
            raise
        remove(folder)  # nothing was trained
        with as_wrong_input():
            raise
    return Run(trainer, best, monitor.report, time.perf_counter() - start)


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
    """How many the training has; Lightning's 1,000 epochs where nothing bounds them."""
    epochs = options["max_epochs"] if options["max_epochs"] is not None else 1000
    known = [options["max_steps"], (_steps_of_epoch(options, data) or 0) * epochs]
    return min((steps for steps in known if steps > 0), default=0)


@final
class LaterBest(ModelCheckpoint):
    """Keeps the best epoch, and of equal ones the latest: a small validation split is full of ties."""

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether an epoch of this metric is kept."""
        is_tie = current is not None and bool(current == self.best_model_score)
        return is_tie or super().check_monitor_top_k(trainer, current)
