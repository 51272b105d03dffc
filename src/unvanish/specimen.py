"""A network under test: what it is built with, and batches for it. ``unvanish.testing`` says what is asked of it.

Shapes: B samples, T tokens.
"""

import copy
import inspect
import logging
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, get_args, get_type_hints

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from unvanish.training import ReferenceModule, Training
from unvanish.trust import first_line

_B = 5
_FROM_DATA = ("input_shape", "output_size", "vocabulary_size", "padding_index", "training")
_NONSENSE = "no_such_word"
#: Words to try where a network does not say which it knows.
_WORDS = {
    "activation": ["sigmoid", "tanh", "relu", "gelu"],
    "initialization": ["default", "xavier_normal", "he_normal", "orthogonal"],
    "normalization": ["none", "batch", "layer", "group"],
}


class ContractError(AssertionError):
    """A network breaks its contract; the message says in one sentence how."""


def require(holds: bool | Tensor, sentence: str) -> None:
    """Raise a ContractError unless it ``holds``."""
    if not holds:
        raise ContractError(sentence)


@dataclass(frozen=True)
class Specimen:
    """A network, all of its arguments, and two batches for it.

    Args:
        network: The class.
        arguments: All that it is called with, its defaults among them.
        training: One of them.
        output_size: Another, if it asks for it.
        x: A batch (B, *input_shape): normal random numbers; or random tokens, of which one row ends in padding.
        other: Another one.
        y: What its task wants of ``x``.
    """

    network: type[ReferenceModule]
    arguments: dict[str, Any]
    training: Training
    output_size: int
    x: Tensor
    other: Tensor
    y: Tensor

    @classmethod
    def of(cls, network: type[ReferenceModule], given: dict[str, Any]) -> Self:
        """A specimen with some of its arguments; what the data knows and it does not ask for goes no further."""
        training, shape, outputs = given["training"], (_B, *given["input_shape"]), given["output_size"]
        words, padding = given.get("vocabulary_size"), given.get("padding_index")
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, *shape, generator=generator)
        if words is not None:
            x = torch.randint(words, (2, *shape), generator=generator)
            if padding is not None and training.task != "next_token":
                x[x == padding] = (padding + 1) % words
                x[:, 1, shape[1] - shape[1] // 2 :] = padding
        y = {
            "binary": torch.arange(_B) % 2.0,
            "regression": torch.randn(_B, outputs, generator=generator),
            "next_token": torch.randint(outputs, shape, generator=generator),
        }.get(training.task, torch.arange(_B) % outputs)
        parameters = inspect.signature(network).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        asked = {name: value for name, value in given.items() if name in parameters or name not in _FROM_DATA}
        return cls(network, defaults | asked, training, outputs, x[0], x[1], y)

    @property
    def options(self) -> list[str]:
        """The arguments that are the network's own."""
        return [name for name in self.arguments if name not in _FROM_DATA]

    def values(self, name: str) -> list[Any]:
        """The value of an argument, and others to try.

        Raises:
            ContractError: A word that means nothing is not refused by ValueError.
        """
        value = self.arguments[name]
        hint = get_type_hints(self.network.__init__).get(name)
        kinds = {type(value)} if value is not None else {getattr(kind, "kind", kind) for kind in get_args(hint)}
        others = self._words(name) if str in kinds else _others(value, kinds)
        return [value, *(other for other in others if other != value)]

    def _words(self, name: str) -> list[str]:
        """Those that the network lists when it refuses nonsense, as it must."""
        try:
            self.build(changes={name: _NONSENSE})
        except ValueError as error:
            listed = re.search(r"known: ([^)]*)\)", str(error))
            return listed[1].split(", ") if listed else _WORDS.get(name, [])
        except Exception as error:
            raise ContractError(f"{name}={_NONSENSE!r} ends in {first_line(error)}, not ValueError") from error
        raise ContractError(f"{name}={_NONSENSE!r} is accepted: refuse an unknown word by ValueError")

    def build(self, seed: int = 0, changes: dict[str, Any] | None = None) -> ReferenceModule:
        """The network, in train mode."""
        set_seed(seed)
        return self.network(**copy.deepcopy(self.arguments | (changes or {})))

    def evaluate(self, model: nn.Module, x: Tensor | None = None) -> Tensor:
        """The logits in eval mode."""
        with torch.no_grad():
            z: Tensor = model.eval()((self.x if x is None else x).clone())
        return z

    def backward(self, model: ReferenceModule, x: Tensor | None = None) -> Tensor:
        """The logits in the mode that the model is in, after the backward pass of its loss."""
        set_seed(1)
        z: Tensor = model((self.x if x is None else x).clone())
        loss = model.training_loss(z, self.y.to(z.dtype) if self.y.is_floating_point() else self.y)
        if loss.requires_grad:
            torch.autograd.backward(loss)
        return z.detach()

    def fingerprint(self, seed: int = 0, changes: dict[str, Any] | None = None, *, precise: bool = False) -> Tensor:
        """Weights, outputs and gradients, (N,), in float64 if ``precise``: two networks that share it are one."""
        model, x = self.build(seed, changes), self.x
        if precise:
            model, x = model.double(), x.double() if x.is_floating_point() else x
        weights = [tensor.clone() for tensor in model.state_dict().values()]
        tensors = [*weights, self.backward(model, x), *gradients(model), self.evaluate(model, x)]
        return torch.cat([tensor.double().flatten() for tensor in tensors])


def _others(value: Any, kinds: set[type]) -> list[Any]:
    """Other values of a switch, a number or a list of whole numbers; none of anything else."""
    if value is None:
        return [True] if bool in kinds else [3, 5] if int in kinds else [0.25, 0.5] if float in kinds else []
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        return [type(value)(item + 1 for item in value)]
    if isinstance(value, bool):
        return [not value]
    return [value + 1] if isinstance(value, int) else [value / 2 + 0.1] if isinstance(value, float) else []


def gradients(model: nn.Module) -> list[Tensor]:
    """Those that there are."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal but for rounding."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()), equal_nan=True)


def set_seed(seed: int) -> None:
    """Seed all random numbers that a network may draw."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Random numbers outside go on as if nothing had been; neither logs nor warnings."""
    disabled = logging.root.manager.disable
    with isolate_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
