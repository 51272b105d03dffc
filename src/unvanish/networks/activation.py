"""Activations by name, for hidden layers."""

from collections.abc import Callable
from functools import partial

from torch import nn

from unvanish.names import lookup

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.01),
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def build_activation(name: str) -> nn.Module:
    """The elementwise activation called ``name``.

    Raises:
        ValueError: the name is unknown, or softmax, which is for outputs only.
    """
    if name == "softmax":
        raise ValueError(
            "softmax is for outputs only: in a hidden layer it makes units compete for a sum of one, so that "
            "activations and gradients shrink with the width; the loss applies it to the logits"
        )
    return lookup("activation", name, _ACTIVATIONS)()
