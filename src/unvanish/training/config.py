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
    """How a network is trained. The defaults are the suite's; a recipe states only what differs.

    Args:
        task: binary, multiclass, regression or next_token; it decides the shape of y, the loss and the metrics.
        loss: What is minimised.
        regularization: What keeps the network from overfitting.
        optimizer: What takes the steps.
        schedule: How the learning rate changes.
        class_weights: How much each class counts in the loss of a binary or multiclass task, in the order of the
            classes; ``balanced`` makes rare ones count as much as frequent ones. Validation and test have the plain
            loss.
        select_by: The metric by which the best checkpoint is chosen and runs are compared. auto: accuracy, rmse, or
            perplexity. Else: loss; of classes precision, recall, f1 (of more than two the mean over the classes),
            auroc, average_precision; of numbers mae, r2.
        early_stopping: End the training after so many validations in a row that are no better. None: never.
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
