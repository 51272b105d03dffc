"""Normalizations by name, for hidden layers."""

from collections.abc import Callable
from math import gcd
from typing import Literal

from torch import nn

from unvanish.names import lookup


def _group(channels: int) -> nn.Module:
    return nn.GroupNorm(gcd(8, channels), channels)


NormalizationName = Literal["none", "batch", "layer", "group"]

#: What each kind of layer takes: rows of features, maps of channels in two or three dimensions, sequences.
_NORMALIZATIONS: dict[str, dict[str, Callable[[int], nn.Module]]] = {
    "rows": {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm},
    "images": {"none": nn.Identity, "batch": nn.BatchNorm2d, "group": _group},
    "clips": {"none": nn.Identity, "batch": nn.BatchNorm3d, "group": _group},
    "sequences": {"none": nn.Identity, "layer": nn.LayerNorm},
}
_BATCH = "its statistics would mix the steps of a sequence, later ones with earlier; take layer"
_LAYER = "it would mix channels that differ in kind with places that do not; take group"
_GROUP = "there are no channels to group; take layer"
_WHY_NOT = {
    ("rows", "group"): _GROUP,
    ("images", "layer"): _LAYER,
    ("clips", "layer"): _LAYER,
    ("sequences", "batch"): _BATCH,
    ("sequences", "group"): _GROUP,
}


def build_normalization(name: str, features: int, kind: str = "rows") -> nn.Module:
    """The normalization called ``name``; none is the identity.

    batch is Ioffe and Szegedy 2015, layer Ba et al. 2016, group Wu and He 2018 (eight groups, or as many as divide the
    channels).

    Args:
        name: none, batch, layer or group.
        features: Size of the axis that is normalized: the last, but of images and clips the channels.
        kind: rows (B, features), images (B, features, height, width), clips (B, features, time, height, width) or
            sequences (B, time, features).

    Raises:
        ValueError: the name is unknown, or is not for this kind.
    """
    if reason := _WHY_NOT.get((kind, name)):
        raise ValueError(f"normalization {name!r} is not for {kind}: {reason}")
    return lookup("normalization", name, _NORMALIZATIONS[kind])(features)
