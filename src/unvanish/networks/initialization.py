"""Initial weights by name.

Each scheme sets the variance of a weight from fan_in and fan_out, the numbers of inputs and outputs of a unit, so that
the variance of activations (forward) or of gradients (backward) neither grows nor shrinks from layer to layer. Two are
written with their numbers, for what papers ask of such variances: normal(std) and mean_field(sigma_w2, sigma_b2).
"""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from unvanish.activations import ACTIVATIONS
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
#: The schemes that take numbers, and which.
_NUMBERS = {
    # N(0, std^2) whatever the layer's size
    "normal": ("std",),
    # Poole et al. 2016: weights N(0, sigma_w2 / fan_in), biases N(0, sigma_b2)
    "mean_field": ("sigma_w2", "sigma_b2"),
}
_FORMS = [f"{name}({', '.join(numbers)})" for name, numbers in _NUMBERS.items()]


class _Scheme(NamedTuple):
    """How a layer is drawn: ``weight`` sets one in place, or is None where all stays; the biases' variance."""

    weight: Callable[[Tensor], Tensor] | None
    bias_variance: float = 0.0


def find_scheme(
    name: str, activation: str, own: Mapping[str, Callable[[Tensor], Tensor]] | None = None
) -> Callable[[Tensor], Tensor] | None:
    """A function that sets one weight by the scheme ``name``, in place; None for ``default``, which changes nothing.

    Args:
        name: As in ``initialize``, or one of ``own``.
        activation: The activation that follows the layer.
        own: Further schemes, of one network alone.

    Raises:
        ValueError: the scheme, or for ``auto`` the activation, is unknown; or the scheme draws biases, which are zero
            where weights are set one by one.
    """
    scheme = _find(name, activation, own or {})
    if scheme.bias_variance:
        raise ValueError(
            f"initialization {name!r} draws biases, and this network sets its own: take it with sigma_b2 = 0"
        )
    return scheme.weight


def initialize(module: nn.Module, name: str, activation: str) -> None:
    """Set the weights of ``module``'s linear and convolutional layers by the scheme ``name``, and their biases to zero.

    ``default`` changes nothing; ``auto`` takes the scheme that fits ``activation``, and logs which; mean_field draws
    the biases as well.

    Args:
        module: Holds the layers.
        name: auto, default, xavier_uniform, xavier_normal, he_uniform, he_normal, lecun_normal, orthogonal, normal(std)
            or mean_field(sigma_w2, sigma_b2), as in "mean_field(1.5, 0.05)".
        activation: What follows the layers.

    Raises:
        ValueError: the scheme, or for ``auto`` the activation, is unknown; its numbers are wrong; or it draws biases
            and a layer has none.
    """
    scheme = _find(name, activation, {})
    if scheme.weight is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            scheme.weight(layer.weight)
            if scheme.bias_variance:
                nn.init.normal_(_bias_of(layer, name), std=math.sqrt(scheme.bias_variance))
            elif layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _bias_of(layer: nn.Linear | nn.Conv2d | nn.Conv3d, name: str) -> Tensor:
    if layer.bias is None:
        raise ValueError(
            f"initialization {name!r} draws biases, and a layer in front of a normalization has none: take it with "
            "sigma_b2 = 0"
        )
    return layer.bias


def _find(name: str, activation: str, own: Mapping[str, Callable[[Tensor], Tensor]]) -> _Scheme:
    if name == "auto":
        name = lookup("activation", activation, ACTIVATIONS).initialization
        log.info("initialization auto: %s, which fits %s", name, activation)
    word, bracket, numbers = name.partition("(")
    if word in _NUMBERS:
        values = _read(name, _NUMBERS[word], numbers if bracket else "")
        return _Scheme(partial(nn.init.normal_, std=values[0])) if word == "normal" else _mean_field(*values)
    try:
        return _Scheme(lookup("initialization", name, {**_SCHEMES, **own}))
    except ValueError as error:
        raise ValueError(f"{error}, {' or '.join(_FORMS)}") from None


def _mean_field(sigma_w2: float, sigma_b2: float) -> _Scheme:
    def draw(weight: Tensor) -> Tensor:
        fan_in = weight[0].numel()
        return nn.init.normal_(weight, std=math.sqrt(sigma_w2 / fan_in))

    return _Scheme(draw, sigma_b2)


def _read(name: str, wanted: tuple[str, ...], rest: str) -> list[float]:
    """The numbers of ``name``, of which ``rest`` stands behind the bracket."""
    form = f"{name.partition('(')[0]}({', '.join(wanted)})"
    try:
        values = [float(word) for word in rest.removesuffix(")").split(",")]
    except ValueError:
        values = []
    if len(values) != len(wanted) or not rest.endswith(")"):
        raise ValueError(f"initialization {name!r} is not of the form {form}")
    for what, value in zip(wanted, values, strict=True):
        if not 0 <= value < math.inf:
            raise ValueError(f"initialization {name!r}: {what} is {value:g}; it must be finite and not negative")
    return values
