"""A training run, and the folder that keeps it."""

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple, final

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from unvanish.command.checkpoints import BEST, LAST
from unvanish.command.errors import as_wrong_input
from unvanish.command.experiment import Built, Experiment
from unvanish.command.recipes import Config
from unvanish.gradients import GradientMonitor, Report
from unvanish.training import OBJECTIVES


class Run(NamedTuple):
    """A finished training run.

    Args:
        trainer: With the network and the data still in it.
        metric: The validation metric by which the best checkpoint was chosen, such as val/accuracy.
        best: Its best value.
        report: What the gradients did; empty where they were not recorded.
        seconds: Time that the training took.
    """

    trainer: L.Trainer
    metric: str
    best: float
    report: Report
    seconds: float


def new_folder(parent: Path) -> Path:
    """Make ``parent/<n>``, n one more than the largest there."""
    if int(os.environ.get("LOCAL_RANK", "0")):
        return Path(os.environ["UNVANISH_RUN"])  # Lightning starts this process anew for each further device
    with as_wrong_input("cannot write the run: "):
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in parent.iterdir() if path.name.isdigit()]
        folder = parent / str(max(taken, default=0) + 1)
        folder.mkdir()
    os.environ["UNVANISH_RUN"] = str(folder)
    return folder


def train(
    experiment: Experiment, built: Built, folder: Path, *, gradients: bool, quiet: bool, ckpt_path: Path | None = None
) -> Run:
    """Fit a network; its logs, checkpoints and reports go to ``folder``.

    Args:
        experiment: What is trained.
        built: Its network and data.
        folder: An empty folder.
        gradients: Whether to record them.
        quiet: Whether to print nothing.
        ckpt_path: A checkpoint of the same network to go on from.
    """
    model, data, options, monitor = built
    monitor.verbose = monitor.verbose and not quiet
    objective = OBJECTIVES[model.settings.task]
    metric = f"val/{objective.metric}"
    best = ModelCheckpoint(folder / "checkpoints", BEST.removesuffix(".ckpt"), metric, mode=objective.mode)
    # save_last of the first would copy the best checkpoint, not the last.
    last = ModelCheckpoint(folder / "checkpoints", LAST.removesuffix(".ckpt"))
    on_terminal = sys.stdout.isatty() and not quiet
    callbacks = [
        *([monitor] if gradients else []),
        *([] if model.settings.schedule.is_constant else [LearningRateMonitor("step")]),
        *([] if quiet or on_terminal else [EpochLines()]),
        HparamsRow(_row(experiment), best, monitor),
        best,
        last,
    ]
    table = CSVLogger(folder.parent, "", folder.name)
    _ = table.experiment  # it wants to find the folder empty
    (folder / "config.yaml").write_text(experiment.resolved(), encoding="utf-8")
    defaults = {
        "logger": [TensorBoardLogger(folder.parent, "", folder.name, default_hp_metric=False), table],
        "default_root_dir": folder,
        "enable_progress_bar": on_terminal,
        "enable_model_summary": False,
        # Lightning's 50 would leave the curve of a short epoch empty.
        "log_every_n_steps": max(1, min(50, len(data.train_dataloader()) // 4)),
    }
    options |= {key: value for key, value in defaults.items() if options[key] is None}
    trainer = L.Trainer(**options | {"callbacks": [*callbacks, *options["callbacks"]]})
    L.seed_everything(experiment.arguments.seed, workers=True, verbose=False)
    start = time.perf_counter()
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path)
    except SystemExit as error:
        # Lightning leaves with 0 when it is told to terminate.
        raise SystemExit(128 + signal.SIGTERM if trainer.received_sigterm else error.code) from error
    return Run(trainer, metric, _score(best), monitor.report, time.perf_counter() - start)


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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's metrics."""
        now = time.monotonic()
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.is_global_zero and (is_last or now - self._printed >= 1):
            self._printed = now
            metrics = "  ".join(
                f"{name} {value:.4g}" for name, value in trainer.callback_metrics.items() if "learning_rate" not in name
            )
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {metrics}", flush=True)
