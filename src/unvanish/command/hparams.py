"""A run's row on TensorBoard's HPARAMS page, and its score under a name that all tasks share."""

import math
from collections.abc import Collection, Iterator
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from unvanish.command.experiment import Experiment
from unvanish.command.recipes import Config
from unvanish.gradients import GradientMonitor
from unvanish.gradients.judge.report import log10
from unvanish.gradients.show.events import OVERVIEW

SCORE = f"{OVERVIEW}/score"
BEST_SCORE, RATIO = "hparams/best_score", "hparams/first_over_last_log10"


def row(experiment: Experiment) -> Config:
    """The settings in which runs usually differ: a flat dict of names and numbers, short enough to read."""
    arguments = experiment.arguments
    optimizer = arguments.model.training.optimizer
    return {
        "recipe": experiment.recipe.name,
        "network": str(experiment.recipe.config["model"]["class_path"]).rpartition(".")[2],
        "seed": arguments.seed,
        **{key: str(value) for key, value in vars(arguments.model).items() if key != "training"},
        "batch_size": arguments.get("data.loading.batch_size"),
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
    }


def unusual(experiment: Experiment) -> set[str]:
    """The columns in which a run is likely to differ: recipe, learning rate, and values other than defaults."""
    defaults = vars(experiment.parser.get_defaults().model)
    model = vars(experiment.arguments.model)
    changed = {key for key, value in model.items() if key != "training" and value != defaults.get(key)}
    return {"recipe", "learning_rate"} | changed


def differing(rows: Collection[Config]) -> set[str]:
    """The columns in which the rows of a comparison differ."""
    keys = dict.fromkeys(key for one in rows for key in one)
    return {key for key in keys if key != "recipe" and len({str(one.get(key)) for one in rows}) > 1}


@final
class HparamsRow(L.Callback):
    """Writes a run's row: how it was set up and what came of it.

    TensorBoard takes the columns from the first run that it finds, and shows only a few of them, those marked as
    differing first. So all rows have the same metrics, and each row marks the columns that are worth looking at.

    Args:
        row: The settings of the run.
        first: The columns to show before the others.
        best: The callback that keeps the best value of the metric.
        monitor: The gradient monitor, for the ratio of the first to the last layer.
    """

    def __init__(self, row: Config, first: Collection[str], best: ModelCheckpoint, monitor: GradientMonitor) -> None:
        self.row, self.first, self.best, self.monitor = row, first, best, monitor

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the settings of the run; otherwise a logger would write an empty hparams.yaml."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self.row)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the score under its common name."""
        score = trainer.callback_metrics.get(str(self.best.monitor))
        if score is not None and not trainer.sanity_checking:
            for writer in _writers(trainer):
                writer.add_scalar(SCORE, float(score), trainer.global_step)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row."""
        best = self.best.best_model_score
        outcome = {BEST_SCORE: math.nan if best is None else float(best)}
        if self.monitor.report.steps:
            outcome[RATIO] = log10(self.monitor.report.end.first_over_last)
        for writer in _writers(trainer):
            experiment, start, end = hparams(self.row, outcome)  # type: ignore[no-untyped-call]
            metadata = experiment.value[0].metadata.plugin_data
            content = HParamsPluginData.FromString(metadata.content)
            for info in content.experiment.hparam_infos:
                info.differs = info.name in self.first
            metadata.content = content.SerializeToString()
            for summary in (experiment, start, end):
                writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
            for tag, value in outcome.items():
                writer.add_scalar(tag, value, trainer.global_step)


def _writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """The writers of TensorBoard's loggers; none in any process but the first."""
    if trainer.is_global_zero:
        loggers: list[Any] = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        yield from (logger.experiment for logger in loggers)
