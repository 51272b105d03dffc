"""The learning rate at which the loss falls fastest, by Lightning's range test."""

import math
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import lightning as L
from lightning.pytorch.tuner.tuning import Tuner
from matplotlib.figure import Figure

from unvanish.command.errors import FailedError, as_wrong_input
from unvanish.command.experiment import Built

PICTURE = "learning_rate.png"
KEY = "model.training.optimizer.learning_rate"
_LEAST, _MOST, _STEPS = 1e-7, 1.0, 100


class Found(NamedTuple):
    """The result of the range test.

    Args:
        rate: The suggested learning rate, rounded to three digits.
        figure: The loss against the learning rate, with ``rate`` marked.
    """

    rate: float
    figure: Figure


def find_learning_rate(built: Built) -> Found:
    """Train for 100 steps with a learning rate that grows from 1e-7 to 1, and find where the loss falls fastest.

    The network's weights are restored afterwards; the states of the random generators are not.

    Raises:
        FailedError: the loss is finite in too few steps to suggest a rate.
    """
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    with TemporaryDirectory() as folder, warnings.catch_warnings(), as_wrong_input():
        warnings.filterwarnings("ignore", "The `srun` command|The .*dataloader.* does not have many workers")
        own = {"default_root_dir": Path(folder), "callbacks": None, "max_epochs": -1, "limit_val_batches": 0}
        trainer = L.Trainer(**built.trainer_options | quiet | {"enable_checkpointing": False} | own)
        finder = Tuner(trainer).lr_find(
            built.model, datamodule=built.data, min_lr=_LEAST, max_lr=_MOST, num_training=_STEPS, update_attr=False
        )
    rate = finder.suggestion() if finder is not None else None
    if finder is None or rate is None or not math.isfinite(rate):
        raise FailedError("no learning rate was found: the loss is finite in fewer than two steps of the test")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    finder.plot(suggest=True, ax=axes)
    axes.set_title(f"the loss falls fastest at {rate:.3g}")
    return Found(float(f"{rate:.3g}"), figure)
