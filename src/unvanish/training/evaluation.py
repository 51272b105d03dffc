"""A network's metrics on a split: its predictions are collected batch by batch, and everything is computed at the end.

Shapes: B samples, N samples of the split, C classes, D targets, T tokens, V words in the vocabulary.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
import torchmetrics.functional as M
from torch import Tensor
from torchmetrics import Metric as Gathered
from torchmetrics.text import Perplexity
from torchmetrics.utilities import rank_zero_warn

from unvanish.training.metrics import METRICS, Answers, in_order, objective

CONSTANT = "constant"
#: With more classes than this, areas under curves are measured only on request.
MOST_CURVES = 100


@dataclass(frozen=True)
class Scores:
    """What a network is worth on a split.

    Args:
        values: Each metric.
        baselines: The metrics of predictions that need no network, by name: for every task the ``constant``
            one, the best that is the same for all samples, and what the data module adds, such as ``naive``.
        confusion: Counts by true class (first axis) and predicted class; empty if there are no classes.
    """

    values: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)

    def by_class(self) -> Iterator[dict[str, float]]:
        """``precision``, ``recall`` and ``f1`` of each class, and its number of samples; 0 where undefined."""
        for i, row in enumerate(self.confusion):
            hits, said, there = row[i], sum(other[i] for other in self.confusion), sum(row)
            yield {
                "precision": hits / said if said else 0.0,
                "recall": hits / there if there else 0.0,
                "f1": 2 * hits / (said + there) if said + there else 0.0,
                "samples": there,
            }

    def not_better(self, task: str, values: Mapping[str, float] | None = None) -> dict[str, list[str]]:
        """Of each baseline, the metrics in which the network is no better.

        Args:
            task: Decides whether a higher metric is better.
            values: Instead of ``self.values``, such as these and the loss.
        """
        worse, found = {}, self.values if values is None else values
        for kind, baseline in self.baselines.items():
            both = [(name, value, baseline[name]) for name, value in found.items() if name in baseline]
            worse[kind] = [
                name
                for name, value, other in both
                if not (value > other if objective(task, name).mode == "max" else value < other)
            ]
        return {kind: names for kind, names in worse.items() if names}


@final
class _Collected(Gathered):
    """Keeps tensors, and returns those of all ranks on request."""

    full_state_update = False

    def __init__(self, count: int) -> None:
        super().__init__()
        self.names = [f"kept_{i}" for i in range(count)]
        for name in self.names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, *tensors: Tensor) -> None:
        for name, tensor in zip(self.names, tensors, strict=True):
            getattr(self, name).append(tensor)

    def compute(self) -> list[Tensor]:
        kept = [getattr(self, name) for name in self.names]
        return [torch.cat(tensors) if isinstance(tensors, list) else tensors for tensors in kept]


@final
class _TokenCounts(Gathered):
    """How often each token occurs."""

    full_state_update = False

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.counts: Tensor
        self.add_state("counts", torch.zeros(vocabulary, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, y: Tensor) -> None:
        tokens = y.flatten()
        self.counts.scatter_add_(0, tokens, torch.ones_like(tokens))

    def compute(self) -> Tensor:
        return self.counts


class Evaluation:
    """Collects the predictions for a split.

    Args:
        task: The task that the logits belong to.
        loss: The name of the loss, of which the constant prediction's is known for the tasks' own and for mae.
        selected: A metric to compute besides the usual ones.
        is_whole: Whether to compute every metric.
    """

    def __init__(self, task: str, loss: str, selected: str, *, is_whole: bool) -> None:
        self.task, self.loss = task, loss
        self._is_whole, self._selected = is_whole, selected
        self._classes = 0
        self._kept: tuple[Gathered, ...] = ()

    def update(self, logits: Tensor, y: Tensor) -> None:
        """Add a batch: logits and y as the loss has them."""
        if not self._kept:
            self._begin(logits)
        if self.task == "next_token":
            self._kept[0].update(logits, y)
            self._kept[1].update(y)
        elif self.task == "regression":
            self._kept[0].update(logits, y)
        else:
            is_binary = self.task == "binary"
            answers = (logits > 0).long() if is_binary else logits.argmax(dim=-1)
            scores = logits
            if not is_binary:  # the difference of two logits is the logit of a binary task
                scores = logits.diff().squeeze(-1) if self._classes == 2 else logits.softmax(dim=-1)
            self._kept[0].update(answers, y.long(), *([scores] if self._keeps_scores else []))

    def _begin(self, logits: Tensor) -> None:
        kept: tuple[Gathered, ...]
        if self.task == "next_token":
            kept = (Perplexity(), _TokenCounts(logits.shape[-1]))
        elif self.task == "regression":
            kept = (_Collected(2),)
        else:
            self._classes = 2 if self.task == "binary" else logits.shape[-1]
            kept = (_Collected(2 + self._keeps_scores),)
        self._kept = tuple(one.to(logits.device) for one in kept)

    @property
    def _names(self) -> list[str]:
        """Which metrics are computed."""
        areas = self._classes <= MOST_CURVES
        return [
            name
            for name, metric in METRICS[self.task].items()
            if metric.is_usual or name == self._selected or (self._is_whole and (areas or not metric.needs_scores))
        ]

    @property
    def _keeps_scores(self) -> bool:
        return any(METRICS[self.task][name].needs_scores for name in self._names)

    def compute(self, scale: Tensor | None = None, baselines: Mapping[str, float] | None = None) -> Scores:
        """The metrics; one that too few samples or classes leave undefined is left out, with a warning.

        Args:
            scale: (D,) the factors that bring targets back to their own units.
            baselines: The data module's own, as ``<metric>_<kind>``.
        """
        if not self._kept:
            return Scores({})
        found: dict[str, dict[str, float]] = {CONSTANT: {}}
        confusion: list[list[int]] = []
        if self.task == "next_token":
            values = {"perplexity": float(self._kept[0].compute())}
            surprise = _entropy(self._kept[1].compute().cpu())
            found[CONSTANT] = {"perplexity": float(surprise.exp()), "loss": float(surprise)}
        else:
            answers, constant_loss = self._answers(scale)
            wanted = {name: METRICS[self.task][name] for name in self._names}
            metrics = {name: metric for name, metric in wanted.items() if metric.is_defined(answers)}
            if undefined := wanted.keys() - metrics.keys():
                rank_zero_warn(f"{', '.join(sorted(undefined))}: not measured, there are too few samples or classes")
            values = {name: float(metric.value(answers)) for name, metric in metrics.items()}
            found[CONSTANT] = {name: float(metric.constant(answers)) for name, metric in metrics.items()}
            if constant_loss is not None:
                found[CONSTANT]["loss"] = float(constant_loss)
            if answers.classes:
                counts = M.confusion_matrix(
                    answers.answers, answers.truth, task="multiclass", num_classes=answers.classes
                )
                confusion = counts.tolist()
        for name, value in (baselines or {}).items():
            metric, _, kind = name.partition("_")
            found.setdefault(kind.replace("_", " "), {})[metric] = value
        return Scores(values, found, confusion)

    def _answers(self, scale: Tensor | None) -> tuple[Answers, Tensor | None]:
        """What was collected, and the loss of the constant prediction where that is known."""
        # torchmetrics takes the axes off a tensor of one number.
        first, truth, *scores = (tensor.cpu().reshape(tensor.shape or (1,)) for tensor in self._kept[0].compute())
        if self._classes:
            loss = _entropy(torch.bincount(truth)) if "cross_entropy" in self.loss else None
            ranked = scores[0] if scores else None
            if ranked is not None and self._classes == 2:
                ranked = in_order(ranked)
            return Answers(first, truth, ranked, self._classes), loss
        first, truth = first.double(), truth.double()
        as_the_loss_has_it = Answers(first, truth)
        loss = None
        if self.loss == "mse":
            loss = METRICS["regression"]["rmse"].constant(as_the_loss_has_it) ** 2
        elif self.loss == "mae":
            loss = METRICS["regression"]["mae"].constant(as_the_loss_has_it)
        factor = 1.0 if scale is None else scale.cpu().double()
        return Answers(first * factor, truth * factor), loss


def _entropy(counts: Tensor) -> Tensor:
    """Of the shares, in nats."""
    share = counts[counts > 0].double() / counts.sum()
    return -(share * share.log()).sum()
