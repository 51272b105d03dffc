"""Losses by name, each on logits, each a mean over the batch.

Shapes: B samples, C classes, D targets, T tokens, V words in the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.names import lookup, nearest
from unvanish.training.brief import brief


def _cross_entropy(
    logits: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """-log softmax(z)[y], for logits (B, C) or, token by token, (B, T, V)."""
    weight = None if class_weights is None else class_weights.to(logits)
    return F.cross_entropy(logits.flatten(0, -2), y.flatten(), weight, label_smoothing=label_smoothing)


def _binary_cross_entropy(
    logits: Tensor, y: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """-y log p - (1 - y) log(1 - p) with p = sigmoid(z), for logits (B,)."""
    weight = None
    if class_weights is not None:
        weight = class_weights.to(logits)[y.long()]
        weight = weight / weight.mean().clamp_min(torch.finfo(weight.dtype).tiny)
    return F.binary_cross_entropy_with_logits(logits, y * (1 - label_smoothing) + label_smoothing / 2, weight)


def _focal(logits: Tensor, y: Tensor, gamma: float = 2.0, class_weights: Tensor | None = None) -> Tensor:
    """-(1 - p)^gamma log p, where p is the probability of the true class (Lin et al. 2017, eq. 4)."""
    if gamma < 0:
        raise ValueError(f"gamma of the focal loss is {gamma}; it must not be negative")
    if y.is_floating_point():
        entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    else:
        entropy = F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="none")
    others = -torch.expm1(-entropy)
    # The derivative of 0^gamma is infinite for gamma < 1, and a sure answer has p = 1.
    losses = others.clamp_min(torch.finfo(others.dtype).tiny) ** gamma * entropy
    if class_weights is None:
        return losses.mean()
    weight = class_weights.to(losses)[y.flatten().long()]
    return (weight * losses).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def _of_one_shape(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Refuses logits that torch would broadcast against y: (B, 1) and (B,) make (B, B) differences."""

    def checked(logits: Tensor, y: Tensor, **options: Any) -> Tensor:
        if logits.shape != y.shape:
            raise ValueError(f"the network returns {tuple(logits.shape)} where y is {tuple(y.shape)}")
        return loss(logits, y, **options)

    return checked


class _Choice(NamedTuple):
    """A loss, the tasks it is for, and the options it takes."""

    function: Callable[..., Tensor]
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ()


_LOSSES = {
    "binary_cross_entropy": _Choice(_binary_cross_entropy, ("binary",)),
    "cross_entropy": _Choice(_cross_entropy, ("multiclass", "next_token")),
    "focal": _Choice(_focal, ("binary", "multiclass", "next_token"), ("gamma",)),
    "mse": _Choice(_of_one_shape(F.mse_loss), ("regression",)),
    "mae": _Choice(_of_one_shape(F.l1_loss), ("regression",)),
    "huber": _Choice(_of_one_shape(F.huber_loss), ("regression",), ("delta",)),
}
DEFAULT_LOSS = {
    "binary": "binary_cross_entropy",
    "multiclass": "cross_entropy",
    "next_token": "cross_entropy",
    "regression": "mse",
}


@dataclass(frozen=True, repr=False)
class Loss:
    """Which loss to minimise.

    Args:
        name: auto (the task's own: binary_cross_entropy, cross_entropy or mse), focal, mae or huber.
        options: The loss's own arguments: gamma for focal (2.0), delta for huber (1.0).
    """

    name: Literal["auto", "binary_cross_entropy", "cross_entropy", "focal", "mse", "mae", "huber"] = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def name_for(self, task: str) -> str:
        """The loss's own name, also if it is ``auto``."""
        return lookup("task", task, DEFAULT_LOSS) if self.name == "auto" else self.name

    def build(
        self, task: str, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of ``task`` as a function ``(logits, y) -> scalar``.

        ``class_weights`` (C,) makes it a weighted mean over the batch: the sum of weight * loss, over that of weights.

        Raises:
            ValueError: the name or an option is unknown, or the loss does not fit the task.
        """
        name = self.name_for(task)
        loss = lookup("loss", name, _LOSSES)
        if task not in loss.tasks:
            raise ValueError(f"loss {name!r} is for {' and '.join(loss.tasks)} tasks; this task is {task}")
        for option in self.options:
            if option not in loss.options:
                raise ValueError(f"loss {name!r} takes no option {option!r}{nearest(option, loss.options)}")
        if class_weights is not None:
            plain: Callable[..., Tensor] = self.build(task, label_smoothing)
            return partial(plain, class_weights=class_weights)
        if not label_smoothing:
            return partial(loss.function, **self.options)
        if loss.function not in (_cross_entropy, _binary_cross_entropy):
            raise ValueError(f"label_smoothing needs a cross-entropy loss; this one is {name!r}")
        return partial(loss.function, label_smoothing=label_smoothing)
