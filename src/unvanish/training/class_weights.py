"""How much each class counts in the loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BALANCED = "balanced"


def check_class_weights(weights: Sequence[float] | str | None, task: str) -> None:
    """Check class weights.

    Raises:
        ValueError: the task has no classes, or a weight is not finite, negative, or all are 0.
    """
    if weights is None:
        return
    if task not in ("binary", "multiclass"):
        raise ValueError(f"class_weights is for binary and multiclass tasks; this task is {task}")
    if isinstance(weights, str):
        if weights != BALANCED:
            raise ValueError(f"class_weights is {weights!r}; it is a number for each class, or {BALANCED!r}")
        return
    given = torch.tensor([*weights], dtype=torch.float64)
    if not (len(given) and given.isfinite().all() and (given >= 0).all() and given.sum() > 0):
        raise ValueError(f"class_weights is {[*weights]}; weights are finite, not negative, and not all 0")


def weights_of_classes(weights: Sequence[float] | str, data: Any) -> Tensor:
    """The weight of each class (C,).

    Args:
        weights: As configured; ``balanced`` gives each class the same total weight over the training samples, and
            a sample the weight 1 on average: N / (C * samples of the class).
        data: A data module with ``task`` and ``output_size``, and for ``balanced`` ``splits``.

    Raises:
        ValueError: there are more or fewer weights than classes, or the data does not say how many samples each has.
    """
    task, size = getattr(data, "task", None), getattr(data, "output_size", None)
    classes = 2 if task == "binary" else size
    if isinstance(weights, str):
        train: tuple[Tensor, ...] = getattr(getattr(data, "splits", None), "train", ())
        if classes is None or len(train) < 2:
            raise ValueError(
                "class_weights='balanced' needs a data module with output_size and splits; give a number for each class"
            )
        counts = torch.bincount(train[1].flatten().long().cpu(), minlength=classes).double()
        return (counts.sum() / (classes * counts.clamp_min(1))).float()
    if classes is not None and len(weights) != classes:
        names = getattr(data, "class_names", None)
        listed = f": {', '.join(names)}" if names and len(names) <= 20 else ""
        raise ValueError(f"class_weights has {len(weights)} numbers, and there are {classes} classes{listed}")
    return torch.tensor([*weights], dtype=torch.float32)
