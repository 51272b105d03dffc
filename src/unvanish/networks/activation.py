"""Activations by name, for hidden layers."""

from torch import nn

from unvanish.activations import ACTIVATIONS
from unvanish.names import lookup


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
    return lookup("activation", name, ACTIVATIONS).build()
