import logging
import math
import re

import pytest
import torch
from torch import nn

from unvanish.networks.initialization import initialize

FAN_IN, FAN_OUT = 600, 400
VARIANCES = {
    "default": 1 / (3 * FAN_IN),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "xavier_normal": 2 / (FAN_IN + FAN_OUT),
    "he_uniform": 2 / FAN_IN,
    "he_normal": 2 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
    "orthogonal": 1 / FAN_IN,
}


def draw(name, activation="relu"):
    torch.manual_seed(7)
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialize(nn.Sequential(nn.Sequential(layer)), name, activation)
    return layer


@pytest.mark.parametrize("name", VARIANCES)
def test_the_variance_of_the_weights_is_that_of_the_formula(name):
    layer = draw(name)
    assert layer.weight.var().item() == pytest.approx(VARIANCES[name], rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.02 * VARIANCES[name] ** 0.5)
    assert (layer.bias == 0).all().item() is (name != "default")


@pytest.mark.parametrize("layer", [nn.Conv2d(24, 80, (5, 5)), nn.Conv3d(24, 80, (1, 5, 5))], ids=["images", "clips"])
@pytest.mark.parametrize("name", VARIANCES)
def test_the_inputs_of_a_convolutions_unit_are_its_channels_times_its_window(name, layer):
    torch.manual_seed(7)
    layer.reset_parameters()
    initialize(nn.Sequential(layer), name, "relu")
    variance = 2 / (25 * (24 + 80)) if name.startswith("xavier") else VARIANCES[name]  # as above, 24 * 25 = 600 inputs
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert (layer.bias == 0).all().item() is (name != "default")


@pytest.mark.parametrize("name", ["default", "xavier_uniform", "he_uniform"])
def test_uniform_weights_fill_their_bounds(name):
    bound = math.sqrt(3 * VARIANCES[name])
    assert 0.999 * bound < draw(name).weight.abs().max().item() <= bound * (1 + 1e-6)


def test_orthogonal_rows_are_orthonormal():
    weight = draw("orthogonal").weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(FAN_OUT), atol=1e-5, rtol=0)


def test_orthogonal_windows_of_a_convolution_are_orthonormal():
    layer = nn.Conv2d(7, 11, 3)
    initialize(layer, "orthogonal", "relu")
    rows = layer.weight.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(11), atol=1e-5, rtol=0)


def test_default_keeps_what_torch_drew():
    layer = draw("default")
    torch.manual_seed(7)
    plain = nn.Linear(FAN_IN, FAN_OUT)
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer.bias, plain.bias)


@pytest.mark.parametrize(
    ("activation", "scheme"),
    [(activation, "xavier_normal") for activation in ("sigmoid", "tanh", "identity")]
    + [(activation, "he_normal") for activation in ("relu", "leaky_relu", "gelu", "silu")]
    + [("selu", "lecun_normal")],
)
def test_auto_takes_the_scheme_that_fits_the_activation_and_says_so(activation, scheme, caplog):
    with caplog.at_level(logging.INFO, logger="unvanish"):
        layer = draw("auto", activation)
    assert caplog.messages == [f"initialization auto: {scheme}, which fits {activation}"]
    assert torch.equal(layer.weight, draw(scheme).weight)


def test_layers_without_bias_and_other_modules_are_left_alone():
    module = nn.Sequential(nn.Linear(3, 5, bias=False), nn.LayerNorm(5))
    nn.init.constant_(module[1].bias, 7)
    initialize(module, "he_normal", "relu")
    assert (module[1].weight.unique().tolist(), module[1].bias.unique().tolist()) == ([1], [7])


@pytest.mark.parametrize(
    ("name", "activation", "message"),
    [
        ("he_norml", "relu", "unknown initialization 'he_norml'; did you mean 'he_normal'? (known: auto, default, "),
        ("auto", "reul", "unknown activation 'reul'; did you mean 'relu'?"),
    ],
)
def test_unknown_names_are_refused(name, activation, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        initialize(nn.Linear(3, 5), name, activation)
