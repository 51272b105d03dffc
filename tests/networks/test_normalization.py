import re

import pytest
import torch
from torch import nn

from unvanish.networks.normalization import build_normalization

#: A batch of each kind, and the axis that its features lie on.
KINDS = {
    "rows": ((5, 12), 1),
    "images": ((5, 12, 3, 7), 1),
    "clips": ((5, 12, 2, 3, 7), 1),
    "sequences": ((5, 7, 12), 2),
}
exact = {"rtol": 0, "atol": 1e-10}


def build(name, kind):
    """The normalization of twelve features with gains from 0.5 to 2 and shifts from -1 to 1, and a batch."""
    shape, axis = KINDS[kind]
    module = build_normalization(name, 12, kind).double()
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2, 12))
        module.bias.copy_(torch.linspace(-1, 1, 12))
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).mul(0.7).sin().mul(3).add(1).view(shape)
    return module, x, axis


def standardised(x, axes):
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def scaled(x, axis):
    """Twelve features along ``axis`` with the gains and shifts of ``build``."""
    gain, shift = (torch.linspace(*ends, 12, dtype=torch.float32).double() for ends in ((0.5, 2), (-1, 1)))
    return (x.movedim(axis, -1) * gain + shift).movedim(-1, axis)


@pytest.mark.parametrize("kind", ["rows", "images", "clips"])
def test_batch_standardises_each_channel_over_the_batch_and_all_places(kind):
    module, x, axis = build("batch", kind)
    places = [a for a in range(x.dim()) if a != axis]
    torch.testing.assert_close(module(x), scaled(standardised(x, places), axis), **exact)
    mean = x.mean(places)
    torch.testing.assert_close(module.running_mean, 0.1 * mean, **exact)
    torch.testing.assert_close(module.running_var, 0.9 + 0.1 * x.var(places), **exact)


@pytest.mark.parametrize("kind", ["rows", "sequences"])
def test_layer_standardises_the_features_of_each_row_or_step(kind):
    module, x, axis = build("layer", kind)
    torch.testing.assert_close(module(x), scaled(standardised(x, [x.dim() - 1]), axis), **exact)


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_group_standardises_the_channels_of_a_group_together_in_each_sample(kind):
    module, x, axis = build("group", kind)
    groups = standardised(x.reshape(5, 4, -1), [2]).view_as(x)
    torch.testing.assert_close(module(x), scaled(groups, axis), **exact)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (8, 8), (12, 4), (6, 2), (7, 1), (1, 1)])
def test_groups_are_eight_or_as_many_as_divide_the_channels(channels, groups):
    assert build_normalization("group", channels, "images").num_groups == groups


@pytest.mark.parametrize("kind", KINDS)
def test_none_changes_nothing(kind):
    x = torch.randn(KINDS[kind][0])
    assert build_normalization("none", 12, kind)(x) is x
    assert isinstance(build_normalization("none", 12, kind), nn.Identity)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("group", "rows", "normalization 'group' is not for rows: there are no channels to group; take layer"),
        (
            "group",
            "sequences",
            "normalization 'group' is not for sequences: there are no channels to group; take layer",
        ),
        ("batch", "sequences", "normalization 'batch' is not for sequences: its statistics would mix the steps of a "),
        ("layer", "images", "normalization 'layer' is not for images: it would mix channels that differ in kind with "),
        ("layer", "clips", "normalization 'layer' is not for clips: it would mix channels that differ in kind with "),
        ("bacth", "images", "unknown normalization 'bacth'; did you mean 'batch'? (known: none, batch, group)"),
        ("bacth", "rows", "unknown normalization 'bacth'; did you mean 'batch'? (known: none, batch, layer)"),
        ("layr", "sequences", "unknown normalization 'layr'; did you mean 'layer'? (known: none, layer)"),
    ],
)
def test_what_is_unknown_or_does_not_fit_is_refused(name, kind, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        build_normalization(name, 12, kind)
