"""Optimizers by name, with weight decay on weights only."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from unvanish.bounds import PositiveFloat, check_bounds
from unvanish.names import lookup, nearest
from unvanish.training.brief import brief
from unvanish.training.muon import MuonWithAdamW, hidden_matrices
from unvanish.training.regularization import weights_of
from unvanish.trust import resolve

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": MuonWithAdamW,
}
_DECOUPLED = (torch.optim.AdamW, MuonWithAdamW)


@dataclass(frozen=True, repr=False)
class Optimizer:
    """The optimizer.

    Args:
        name: sgd, rmsprop, adam, adamw, muon, or the dotted path of any class like torch.optim.NAdam.
        learning_rate: eta, the size of a step.
        options: The optimizer's own arguments, such as momentum and nesterov for sgd, or betas for adam.
    """

    name: str = "adam"
    learning_rate: PositiveFloat = 1e-3
    options: dict[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def __post_init__(self) -> None:
        check_bounds(Optimizer, vars(self), "optimizer.")

    def build(self, module: nn.Module, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """The optimizer of ``module``'s trainable parameters, of which only weights (two axes or more) decay.

        Raises:
            ValueError: the name or an option is wrong, or the optimizer has no decoupled weight decay.
        """
        kind = self._kind()
        ours = {"params", "lr", "weight_decay", "decoupled_weight_decay"}
        known = [name for name in inspect.signature(kind).parameters if name not in ours]
        for option in self.options:
            if option not in known:
                hint = nearest(option, known)
                raise ValueError(
                    f"optimizer {self.name!r} takes no option {option!r}{hint} (known: {', '.join(known)})"
                )
        options = dict(self.options)
        if weight_decay and kind not in _DECOUPLED:
            if "decoupled_weight_decay" not in inspect.signature(kind).parameters:
                raise ValueError(
                    f"optimizer {self.name!r} has no decoupled weight decay: take adam, adamw or muon, or say "
                    "regularization.l2 (half of what torch calls weight_decay)"
                )
            options["decoupled_weight_decay"] = True
        weights = weights_of(module)
        others = [p for p in module.parameters() if p.requires_grad and p.dim() < 2]
        groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        if kind is MuonWithAdamW:
            hidden = hidden_matrices(module)
            if not hidden:
                raise ValueError("optimizer 'muon' is for hidden matrices, and this network has none")
            groups[0]["params"] = [w for w in weights if all(w is not h for h in hidden)]
            groups.insert(0, {"params": hidden, "weight_decay": weight_decay})
        elif not weight_decay:
            groups = [{"params": [*weights, *others], "weight_decay": 0.0}]
        try:
            return kind([group for group in groups if group["params"]], lr=self.learning_rate, **options)
        except TypeError as error:
            raise ValueError(f"optimizer {self.name!r}: {error}") from error

    def _kind(self) -> Callable[..., torch.optim.Optimizer]:
        if "." not in self.name:
            return lookup("optimizer", self.name, _OPTIMIZERS)
        kind: Callable[..., torch.optim.Optimizer] = resolve(self.name, torch.optim.Optimizer, "optimizer")
        return kind
