"""The metrics of each task, and their values for a constant prediction.

Shapes: N samples, C classes, D targets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchmetrics.functional as M
from torch import Tensor
from torch.nn.functional import softsign

from unvanish.names import lookup


class Objective(NamedTuple):
    """The metric that compares two checkpoints or two runs of a task."""

    metric: str
    mode: str


class Answers(NamedTuple):
    """A network's predictions for a split, on the CPU.

    Args:
        answers: The class (N,), or the numbers (N, D) in float64.
        truth: Of the same shape.
        scores: For classes, the scores that curves are computed from: (N,) that grows with the second class, or
            probabilities (N, C).
        classes: C, 2 of a binary task; 0 of numbers.
    """

    answers: Tensor
    truth: Tensor
    scores: Tensor | None = None
    classes: int = 0

    @property
    def constant(self) -> "Answers":
        """The most frequent class for all."""
        counts = torch.bincount(self.truth, minlength=self.classes)
        return self._replace(answers=torch.full_like(self.truth, int(counts.argmax())), scores=None)


class Metric(NamedTuple):
    """A metric of predictions.

    Args:
        mode: ``max`` if higher is better, else ``min``.
        value: Its value for predictions.
        constant: Its value for the best constant prediction: the most frequent class, the mean, or the
            median.
        is_defined: Whether there are enough samples, of every class that it needs.
        needs_scores: Whether it is computed from ``scores``.
        is_usual: Whether each validation computes it; the others are computed at the end, or if selected by.
    """

    mode: str
    value: Callable[[Answers], Tensor]
    constant: Callable[[Answers], Tensor]
    is_defined: Callable[[Answers], bool] = lambda _: True
    needs_scores: bool = False
    is_usual: bool = False


def _of_classes(function: Callable[..., Tensor], average: str = "macro") -> Callable[[Answers], Tensor]:
    """A metric of torchmetrics: with two classes that of the second, with more the mean over the classes."""

    def value(found: Answers) -> Tensor:
        if found.classes == 2:
            return function(found.answers, found.truth, task="binary")
        return function(found.answers, found.truth, task="multiclass", num_classes=found.classes, average=average)

    return value


def _of_scores(function: Callable[..., Any]) -> Callable[[Answers], Tensor]:
    """The area under a curve; of more than two classes the mean over those that there are, each against the others."""

    def value(found: Answers) -> Tensor:
        if found.scores is None or found.classes == 2:
            return torch.as_tensor(function(found.scores, found.truth, task="binary"))
        there = torch.bincount(found.truth).nonzero().flatten().tolist()
        areas = [function(found.scores[:, i], (found.truth == i).long(), task="binary") for i in there]
        return torch.stack(areas).mean()

    return value


def _share(found: Answers) -> Tensor:
    """The area under the precision-recall curve of a constant score: the share of the class."""
    counts = torch.bincount(found.truth, minlength=found.classes)
    share = counts / counts.sum()
    return share[1] if found.classes == 2 else share[counts > 0].mean()


def _classification(name: str, **options: object) -> Metric:
    value = _of_classes(getattr(M, name if name != "f1" else "f1_score"), **options)  # type: ignore[arg-type]
    return Metric("max", value, lambda found: value(found.constant), is_usual=name == "accuracy")


def _deviations(found: Answers, centre: Tensor) -> Tensor:
    return found.truth - centre


_CLASSES = {
    "accuracy": _classification("accuracy", average="micro"),
    "precision": _classification("precision"),
    "recall": _classification("recall"),
    "f1": _classification("f1"),
    "auroc": Metric(
        "max",
        _of_scores(M.auroc),
        lambda found: torch.tensor(0.5),
        lambda found: bool(found.truth.min() < found.truth.max()),
        needs_scores=True,
    ),
    "average_precision": Metric(
        "max",
        _of_scores(M.average_precision),
        _share,
        lambda found: found.classes > 2 or bool(found.truth.any()),
        needs_scores=True,
    ),
}
METRICS: dict[str, dict[str, Metric]] = {
    "binary": _CLASSES | {"auroc": _CLASSES["auroc"]._replace(is_usual=True)},
    "multiclass": _CLASSES,
    "regression": {
        "rmse": Metric(
            "min",
            lambda found: M.mean_squared_error(found.answers, found.truth, squared=False),
            lambda found: _deviations(found, found.truth.mean(dim=0)).square().mean().sqrt(),
            is_usual=True,
        ),
        "mae": Metric(
            "min",
            lambda found: M.mean_absolute_error(found.answers, found.truth),
            lambda found: _deviations(found, found.truth.quantile(0.5, dim=0)).abs().mean(),
            is_usual=True,
        ),
        "r2": Metric(
            "max",
            lambda found: M.r2_score(found.answers, found.truth),
            lambda found: torch.tensor(0.0),
            lambda found: len(found.truth) > 1,
            is_usual=True,
        ),
    },
    "next_token": {},
}
#: The metric that compares a task's checkpoints by default.
OBJECTIVES = {
    "binary": Objective("accuracy", "max"),
    "multiclass": Objective("accuracy", "max"),
    "regression": Objective("rmse", "min"),
    "next_token": Objective("perplexity", "min"),
}


def objective(task: str, name: str) -> Objective:
    """The metric of ``task`` with this name; ``auto`` is the task's default.

    Raises:
        ValueError: the task has none of this name.
    """
    own = OBJECTIVES[task]
    if name == "auto":
        return own
    modes = {own.metric: own.mode} | {metric: found.mode for metric, found in METRICS[task].items()} | {"loss": "min"}
    return Objective(name, lookup(f"metric of a {task} task", name, modes))


def in_order(logits: Tensor) -> Tensor:
    """Logits (N,) in (0, 1), by a function that keeps them apart.

    torchmetrics takes what lies in [0, 1] for probabilities, and the sigmoid is 1 in float32 from 17 on.
    """
    return (1 + softsign(logits.double())) / 2
