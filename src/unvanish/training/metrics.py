"""The metrics of each task, as running totals over an epoch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, final

from torch import Tensor
from torch.nn.functional import softsign
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import BinaryAUROC
from torchmetrics.regression import MeanSquaredError, R2Score
from torchmetrics.text import Perplexity

from unvanish.names import lookup


class Objective(NamedTuple):
    """The metric by which two checkpoints, or two runs, of a task are compared."""

    metric: str
    mode: str


OBJECTIVES = {
    "binary": Objective("accuracy", "max"),
    "multiclass": Objective("accuracy", "max"),
    "regression": Objective("rmse", "min"),
    "next_token": Objective("perplexity", "min"),
}


@final
class Accuracy(MeanMetric):
    """The share of right answers from logits: (B,) with y in {0, 1}, or (B, C) with y in 0..C-1.

    torchmetrics' own binary metrics take a batch of logits that happen to lie in [0, 1] for probabilities.
    """

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, y: Tensor) -> None:  # type: ignore[override]
        """Count the right answers of one batch."""
        answers = logits > 0 if y.is_floating_point() else logits.argmax(dim=-1)
        super().update((answers == y).float())


@final
class AUROC(BinaryAUROC):
    """Area under the ROC curve from logits (B,).

    They are mapped into (0, 1) for the reason in ``Accuracy``, and not by the sigmoid: in float32 it is 1 from 17 on.
    """

    def update(self, logits: Tensor, y: Tensor) -> None:
        """Keep the scores of one batch."""
        super().update((1 + softsign(logits.double())) / 2, y.long())


_METRICS: dict[str, dict[str, Callable[[], Metric]]] = {
    "binary": {"accuracy": Accuracy, "auroc": AUROC},
    "multiclass": {"accuracy": Accuracy},
    "regression": {"rmse": partial(MeanSquaredError, squared=False), "r2": R2Score},
    "next_token": {"perplexity": Perplexity},
}


def build_metrics(task: str, prefix: str) -> MetricCollection:
    """The metrics of ``task`` on (logits, y), their names behind ``prefix``."""
    return MetricCollection({name: kind() for name, kind in lookup("task", task, _METRICS).items()}, prefix=prefix)
