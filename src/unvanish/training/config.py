"""The training configuration that every network family shares."""

from dataclasses import dataclass, field

import torch

from unvanish.names import lookup
from unvanish.training.brief import brief
from unvanish.training.loss import DEFAULT_LOSS, Loss
from unvanish.training.optimizer import Optimizer
from unvanish.training.regularization import Regularization
from unvanish.training.schedule import Schedule


@dataclass(frozen=True, repr=False)
class Training:
    """How a network is trained. The defaults are the suite's; a recipe states only what differs.

    Args:
        task: binary, multiclass, regression or next_token; it decides the shape of y, the loss and the metrics.
        loss: What is minimised.
        regularization: What keeps the network from learning its training data by heart.
        optimizer: What takes the steps.
        schedule: How the learning rate changes.
    """

    task: str = "multiclass"
    loss: Loss = field(default_factory=Loss)
    regularization: Regularization = field(default_factory=Regularization)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)

    __repr__ = brief

    def __post_init__(self) -> None:
        lookup("task", self.task, DEFAULT_LOSS)


# A checkpoint holds its network's arguments; these classes let it load with weights_only=True.
torch.serialization.add_safe_globals([Training, Loss, Regularization, Optimizer, Schedule])
