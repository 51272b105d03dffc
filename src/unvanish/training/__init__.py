"""What every network family shares: loss, regularization, optimizer, schedule, metrics."""

from unvanish.training.config import Training
from unvanish.training.evaluation import Scores
from unvanish.training.loss import Loss
from unvanish.training.metrics import OBJECTIVES, Objective
from unvanish.training.module import ReferenceModule
from unvanish.training.optimizer import Optimizer
from unvanish.training.regularization import Regularization
from unvanish.training.schedule import Schedule

__all__ = [
    "OBJECTIVES",
    "Loss",
    "Objective",
    "Optimizer",
    "ReferenceModule",
    "Regularization",
    "Schedule",
    "Scores",
    "Training",
]
