"""The training configuration that every network family shares."""

from dataclasses import dataclass, field

import torch

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.names import lookup
from unvanish.training.brief import brief
from unvanish.training.class_weights import check_class_weights
from unvanish.training.loss import DEFAULT_LOSS, Loss
from unvanish.training.metrics import objective
from unvanish.training.optimizer import Optimizer
from unvanish.training.regularization import Regularization
from unvanish.training.schedule import Schedule


@dataclass(frozen=True, repr=False)
class Training:
    """How a network is trained. A recipe states only what differs from these defaults.

    Args:
        task: binary, multiclass, regression or next_token; determines the shape of y, the loss and the metrics.
        loss: What is minimised.
        regularization: Penalties, weight decay, dropout and their like, against overfitting.
        optimizer: The optimizer and its learning rate.
        schedule: How the learning rate changes over the run.
        class_weights: How much each class counts in the loss of a binary or multiclass task, in the order of the
            classes; ``balanced`` makes rare ones count as much as frequent ones. Validation and test use the plain
            loss.
        select_by: The metric that selects the best checkpoint and compares runs. auto: accuracy, rmse, or
            perplexity. Else: loss; of classes precision, recall, f1 (of more than two the mean over the classes),
            auroc, average_precision; of numbers mae, r2.
        early_stopping: Stop after this many validations in a row without improvement. None: never.
    """

    task: str = "multiclass"
    loss: Loss = field(default_factory=Loss)
    regularization: Regularization = field(default_factory=Regularization)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    class_weights: list[float] | str | None = None
    select_by: str = "auto"
    early_stopping: PositiveInt | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        lookup("task", self.task, DEFAULT_LOSS)
        check_class_weights(self.class_weights, self.task)
        objective(self.task, self.select_by)
        check_bounds(Training, vars(self))


# A checkpoint holds its network's arguments; these classes let it load with weights_only=True.
torch.serialization.add_safe_globals([Training, Loss, Regularization, Optimizer, Schedule])
