"""Normalizations by name, for hidden layers."""

from collections.abc import Callable

from torch import nn

from unvanish.names import lookup

_NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": nn.Identity,
    "batch": nn.BatchNorm1d,  # Ioffe and Szegedy 2015
    "layer": nn.LayerNorm,  # Ba et al. 2016
}


def build_normalization(name: str, features: int) -> nn.Module:
    """The normalization called ``name`` for (B, features); none is the identity.

    Raises:
        ValueError: the name is unknown.
    """
    return lookup("normalization", name, _NORMALIZATIONS)(features)
