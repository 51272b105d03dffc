"""Optimizers of torch with the defaults and the epsilons of Keras."""

import math
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.faults.cases import Facts

EPSILON = 1e-7
#: Fields that say how the optimizer is used, and not what it is.
USE = ("name", "decay", "no_zero_grad", "only", "of_another_model", "learning_rate")
#: By name: the class, its learning rate, what it is always given, and fields under torch's names.
_KINDS: dict[str, tuple[type[Optimizer], float, dict[str, Any], dict[str, str]]] = {
    "sgd": (torch.optim.SGD, 0.01, {"fused": True}, {}),
    "adam": (torch.optim.Adam, 0.001, {"eps": EPSILON, "fused": True}, {"epsilon": "eps"}),
    "adamw": (torch.optim.AdamW, 0.001, {"eps": EPSILON, "fused": True}, {"epsilon": "eps"}),
    "rmsprop": (torch.optim.RMSprop, 0.001, {"alpha": 0.9, "eps": EPSILON}, {"epsilon": "eps", "rho": "alpha"}),
    "adagrad": (torch.optim.Adagrad, 0.01, {"eps": EPSILON}, {"epsilon": "eps"}),
    "adadelta": (torch.optim.Adadelta, 1.0, {"rho": 0.95, "eps": EPSILON}, {"epsilon": "eps"}),
    "adamax": (torch.optim.Adamax, 0.002, {"eps": EPSILON}, {"epsilon": "eps"}),
    "nadam": (torch.optim.NAdam, 0.002, {"eps": EPSILON}, {"epsilon": "eps"}),
}
_BETAS = {"adam", "adamw", "adamax", "nadam"}


def optimizer_of(spec: Facts, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer that the facts name, of those parameters that train."""
    if spec["name"] not in _KINDS:
        raise ValueError(f"no optimizer is called {spec['name']}")
    kind, rate, fixed, names = _KINDS[spec["name"]]
    left_out = {*USE, *unknown(spec)}
    given = {names.get(field, field): value for field, value in spec.items() if field not in left_out}
    if spec["name"] in _BETAS:
        fixed = fixed | {"betas": (given.pop("beta_1", 0.9), given.pop("beta_2", 0.999))}
    chosen = list(parameters)
    chosen = [parameter for parameter in chosen if parameter.requires_grad] or chosen
    make: Callable[..., Optimizer] = kind
    return make(chosen, lr=spec.get("learning_rate") or rate, **(fixed | given))


def unknown(spec: Facts) -> list[str]:
    """The fields that an optimizer of this name does not know here."""
    kind, _, _, names = _KINDS[spec["name"]]
    known = {*USE, *names, *signature(kind).parameters} | ({"beta_1", "beta_2"} if spec["name"] in _BETAS else set())
    return sorted(spec.keys() - known)


class Schedule:
    """Sets what Keras changes from step to step: the learning rate by ``decay``, and what Adam's epsilon means.

    Keras adds epsilon to the root of the mean square as it is, torch to that which is corrected for its start.
    """

    def __init__(self, spec: Facts, optimizer: Optimizer) -> None:
        self.groups = optimizer.param_groups
        self.rate, self.decay = self.groups[0]["lr"], spec.get("decay") or 0.0
        self.epsilon = self.groups[0]["eps"] if spec["name"] in ("adam", "adamw") else None

    def before(self, step: int) -> None:
        """Set what holds at this step; the first is 0."""
        for group in self.groups:
            if self.decay:
                group["lr"] = self.rate / (1 + self.decay * step)
            if self.epsilon is not None:
                group["eps"] = self.epsilon / math.sqrt(1 - group["betas"][1] ** (step + 1))
