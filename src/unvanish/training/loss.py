"""Losses by name, each on logits, each a mean over the batch.

Shapes: B samples, C classes, D targets, T tokens, V words in the vocabulary.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from unvanish.names import lookup, nearest


def _cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(z)[y], for logits (B, C) or, token by token, (B, T, V)."""
    return F.cross_entropy(logits.flatten(0, -2), y.flatten(), label_smoothing=label_smoothing)


def _binary_cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-y log p - (1 - y) log(1 - p) with p = sigmoid(z), for logits (B,)."""
    return F.binary_cross_entropy_with_logits(logits, y * (1 - label_smoothing) + label_smoothing / 2)


def _focal(logits: Tensor, y: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma log p, where p is the probability of the true class (Lin et al. 2017, eq. 4)."""
    if y.is_floating_point():
        entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    else:
        entropy = F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="none")
    return ((1 - (-entropy).exp()) ** gamma * entropy).mean()


_CLASSES = ("binary", "multiclass", "next_token")
_LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "binary_cross_entropy": (_binary_cross_entropy, ("binary",)),
    "cross_entropy": (_cross_entropy, ("multiclass", "next_token")),
    "focal": (_focal, _CLASSES),
    "mse": (F.mse_loss, ("regression",)),
    "mae": (F.l1_loss, ("regression",)),
    "huber": (F.huber_loss, ("regression",)),
}
DEFAULT_LOSS = {
    "binary": "binary_cross_entropy",
    "multiclass": "cross_entropy",
    "next_token": "cross_entropy",
    "regression": "mse",
}


@dataclass(frozen=True)
class Loss:
    """Which loss to minimise.

    Args:
        name: auto (the task's own: binary_cross_entropy, cross_entropy or mse), focal, mae or huber.
        options: The loss's own arguments: gamma for focal (2.0), delta for huber (1.0).
    """

    name: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, task: str, label_smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of ``task`` as a function ``(logits, y) -> scalar``.

        Raises:
            ValueError: the name or an option is unknown, or the loss does not fit the task.
        """
        name = lookup("task", task, DEFAULT_LOSS) if self.name == "auto" else self.name
        loss, tasks = lookup("loss", name, _LOSSES)
        if task not in tasks:
            raise ValueError(f"loss {name!r} is for {' and '.join(tasks)} tasks; this task is {task}")
        known = list(inspect.signature(loss).parameters)[2:]
        for option in self.options:
            if option not in known:
                raise ValueError(f"loss {name!r} takes no option {option!r}{nearest(option, known)}")
        if label_smoothing and "label_smoothing" not in known:
            raise ValueError(f"label_smoothing needs a cross-entropy loss; this one is {name!r}")
        smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
        return partial(loss, **self.options, **smoothing)
