"""The activations that have a name: for networks, for the theory of their gradients, and what starts suit them."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from torch import nn

from unvanish.names import lookup

ActivationName = Literal["sigmoid", "tanh", "relu", "leaky_relu", "gelu", "selu", "silu", "identity"]


class Activation(NamedTuple):
    """An elementwise activation.

    Args:
        build: Makes the module.
        initialization: The name of the initial weights that suit it.
    """

    build: Callable[[], nn.Module]
    initialization: str


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(nn.Sigmoid, "xavier_normal"),
    "tanh": Activation(nn.Tanh, "xavier_normal"),
    "relu": Activation(nn.ReLU, "he_normal"),
    "leaky_relu": Activation(partial(nn.LeakyReLU, 0.01), "he_normal"),
    "gelu": Activation(nn.GELU, "he_normal"),
    "selu": Activation(nn.SELU, "lecun_normal"),
    "silu": Activation(nn.SiLU, "he_normal"),
    "identity": Activation(nn.Identity, "xavier_normal"),
}


def build_activation(name: str) -> nn.Module:
    """The elementwise activation called ``name``.

    Raises:
        ValueError: the name is unknown, or softmax, which is for outputs only.
    """
    return lookup("activation", name, ACTIVATIONS).build()
