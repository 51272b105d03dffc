import logging
import math
import re

import pytest
import torch
from torch import nn

from unvanish import CNN, CompactCNN, Recurrent, Transformer
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
    "normal(0.1)": 0.01,
    "mean_field(1.5,0)": 1.5 / FAN_IN,
    "mean_field(1.76095, 0.05)": 1.76095 / FAN_IN,
}
BIAS_VARIANCES = {"default": 1 / (3 * FAN_IN), "mean_field(1.76095, 0.05)": 0.05}


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
    assert layer.bias.var().item() == pytest.approx(BIAS_VARIANCES.get(name, 0), rel=0.2)
    assert layer.bias.mean().item() == pytest.approx(0, abs=0.2 * BIAS_VARIANCES.get(name, 0) ** 0.5)


@pytest.mark.parametrize("layer", [nn.Conv2d(24, 80, (5, 5)), nn.Conv3d(24, 80, (1, 5, 5))], ids=["images", "clips"])
@pytest.mark.parametrize("name", VARIANCES)
def test_the_inputs_of_a_convolutions_unit_are_its_channels_times_its_window(name, layer):
    torch.manual_seed(7)
    layer.reset_parameters()
    initialize(nn.Sequential(layer), name, "relu")
    variance = 2 / (25 * (24 + 80)) if name.startswith("xavier") else VARIANCES[name]  # as above, 24 * 25 = 600 inputs
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.03)
    # The 80 biases of one draw differ in variance from the law's by 16 % (one standard deviation).
    assert layer.bias.var().item() == pytest.approx(BIAS_VARIANCES.get(name, 0), rel=0.4)


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
        ("meanfield(1, 0)", "relu", "unknown initialization 'meanfield(1, 0)' (known: auto, default, "),
        ("auto", "reul", "unknown activation 'reul'; did you mean 'relu'?"),
    ],
)
def test_unknown_names_are_refused(name, activation, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        initialize(nn.Linear(3, 5), name, activation)


def test_the_schemes_that_take_numbers_are_listed_behind_those_that_take_none():
    with pytest.raises(ValueError, match=re.escape("orthogonal), normal(std) or mean_field(sigma_w2, sigma_b2)") + "$"):
        initialize(nn.Linear(3, 5), "he_norml", "relu")


def test_weights_of_variance_zero_are_zero():
    layer = draw("normal(0)")
    assert not layer.weight.any()
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, " is not of the form normal(std)") for name in ("normal", "normal()", "normal(1, 2)", "normal(a)")),
        ("normal(0.1", " is not of the form normal(std)"),
        ("normal(0.1) ", " is not of the form normal(std)"),
        ("mean_field(1.5)", " is not of the form mean_field(sigma_w2, sigma_b2)"),
        ("mean_field(1.5, 0.05, 1)", " is not of the form mean_field(sigma_w2, sigma_b2)"),
        ("normal(-0.1)", ": std is -0.1; it must be finite and not negative"),
        ("mean_field(inf, 0)", ": sigma_w2 is inf; it must be finite and not negative"),
        ("mean_field(1.5, nan)", ": sigma_b2 is nan; it must be finite and not negative"),
    ],
)
def test_wrong_numbers_and_wrong_counts_are_refused(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(f'initialization {name!r}{message}')}$"):
        initialize(nn.Linear(3, 5), name, "tanh")


@pytest.mark.parametrize(
    "build",
    [
        lambda scheme: Recurrent((7, 3), 2, 5, initialization=scheme),
        lambda scheme: Transformer((7, 3), 2, 8, 1, initialization=scheme),
        lambda scheme: CNN((1, 8, 8), 2, 8, initialization=scheme),
        lambda scheme: CompactCNN((1, 8, 8), 2, [3], initialization=scheme),
    ],
    ids=["recurrent", "transformer", "cnn", "compact cnn"],
)
def test_biases_that_a_network_does_not_draw_are_refused_not_forgotten(build):
    build("mean_field(1.5, 0)")
    message = r"^initialization 'mean_field\(1.5, 0.05\)' draws biases, and .*: take it with sigma_b2 = 0$"
    with pytest.raises(ValueError, match=message):
        build("mean_field(1.5, 0.05)")


def test_each_gate_of_a_recurrent_network_has_the_variance_of_its_own_fan_in():
    torch.manual_seed(7)
    (layer,) = Recurrent((7, 300), 2, 200, cell="gru", initialization="mean_field(1.5, 0)").layers
    for gate in (*layer.recurrence.weight_ih_l0.split(200), *layer.recurrence.weight_hh_l0.split(200)):
        assert gate.var().item() == pytest.approx(1.5 / gate.shape[1], rel=0.03)


def test_a_wrong_number_is_not_answered_with_a_list_of_names():
    with pytest.raises(ValueError, match=r"not negative$"):
        Transformer((7, 3), 2, 8, 1, initialization="normal(-1)")
