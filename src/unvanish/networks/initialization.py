"""Initial weights by name.

Each scheme sets the variance of a weight from fan_in and fan_out, the numbers of inputs and outputs of a unit, so that
the variance of activations (forward) or of gradients (backward) neither grows nor shrinks from layer to layer.
"""

import logging
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from unvanish.names import lookup

log = logging.getLogger(__name__)

_SCHEMES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "auto": None,
    # U(-1/sqrt(fan_in), 1/sqrt(fan_in)), variance 1 / (3 fan_in), which torch has drawn already
    "default": None,
    # Glorot and Bengio 2010, eq. 16: variance 2 / (fan_in + fan_out)
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    # He et al. 2015, eq. 10: variance 2 / fan_in, for units of which ReLU silences half
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    # LeCun et al. 1998, 4.6: variance 1 / fan_in, what SELU's fixed point supposes (Klambauer et al. 2017)
    "lecun_normal": partial(nn.init.kaiming_normal_, nonlinearity="linear"),
    # Saxe et al. 2014
    "orthogonal": nn.init.orthogonal_,
}
_FITTING = {
    "sigmoid": "xavier_normal",
    "tanh": "xavier_normal",
    "identity": "xavier_normal",
    "relu": "he_normal",
    "leaky_relu": "he_normal",
    "gelu": "he_normal",
    "silu": "he_normal",
    "selu": "lecun_normal",
}


def find_scheme(name: str, activation: str) -> Callable[[Tensor], Tensor] | None:
    """What sets one weight by the scheme ``name``, in place; None for ``default``, which changes nothing.

    Raises:
        ValueError: the scheme, or for ``auto`` the activation, is unknown.
    """
    if name == "auto":
        name = lookup("activation", activation, _FITTING)
        log.info("initialization auto: %s, which fits %s", name, activation)
    return lookup("initialization", name, _SCHEMES)


def initialize(module: nn.Module, name: str, activation: str) -> None:
    """Set the weights of ``module``'s linear and convolutional layers by the scheme ``name``, and their biases to zero.

    ``default`` changes nothing; ``auto`` takes the scheme that fits ``activation``, and logs which.

    Raises:
        ValueError: the scheme, or for ``auto`` the activation, is unknown.
    """
    scheme = find_scheme(name, activation)
    if scheme is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            scheme(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
