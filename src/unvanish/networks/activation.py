"""Activations by name, for hidden layers."""

from torch import nn

from unvanish.activations import ACTIVATIONS
from unvanish.names import lookup


def build_activation(name: str) -> nn.Module:
    """The elementwise activation called ``name``.

    Raises:
        ValueError: the name is unknown, or softmax, which is for outputs only.
    """
    return lookup("activation", name, ACTIVATIONS).build()
