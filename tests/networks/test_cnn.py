import inspect
import logging
import re
from itertools import product
from math import gcd

import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.gradients import GradientRecorder
from unvanish.networks.cnn import CNN
from unvanish.training import Optimizer, Regularization, Training

B, WIDTH = 3, 6
IMAGES, CLIPS = (2, 7, 5), (2, 5, 4, 7)
SHAPES = pytest.mark.parametrize("shape", [IMAGES, CLIPS], ids=["images", "clips"])
MODES = [(False, False), (True, False), (True, True)]
NAMES = ["plain", "residual", "preactivation"]
exact = {"rtol": 0, "atol": 1e-10}


def waves(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).mul(0.7).sin().view(shape)


def build(shape, **arguments):
    """A network in float64 with weights so large that the input matters, and normalizations that have learnt."""
    torch.manual_seed(7)
    model = CNN(shape, 3, width=WIDTH, activation="tanh", **arguments).double()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() > 1:
                tensor.mul_(3)
            elif tensor.dim() == 1:
                low = 0.5 if name.endswith("running_var") else -0.5
                tensor.copy_(torch.linspace(low, 1, tensor.numel()))
    return model


def convolved(z, state, name, stride=1):
    operation = F.conv2d if z.dim() == 4 else F.conv3d
    return operation(z, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding=1)


def normalized(z, state, name, normalization, training):
    if normalization == "none":
        return z
    is_group, channel = normalization == "group", (1, -1, *[1] * (z.dim() - 2))
    rows = z.reshape(B, gcd(8, z.shape[1]), -1) if is_group else z
    axes = [2] if is_group else [axis for axis in range(z.dim()) if axis != 1]
    mean, variance = rows.mean(axes, keepdim=True), rows.var(axes, correction=0, keepdim=True)
    if not is_group and not training:
        mean, variance = (state[f"{name}.running_{what}"].view(channel) for what in ("mean", "var"))
    gain, shift = (state[f"{name}.{what}"].view(channel) for what in ("weight", "bias"))
    return gain * ((rows - mean) / (variance + 1e-5).sqrt()).reshape(z.shape) + shift


def shortcut(x, channels):
    if x.shape[1] == channels:
        return x
    halved = F.avg_pool2d(x, 1, stride=2) if x.dim() == 4 else F.avg_pool3d(x, 1, stride=2)
    return torch.cat([halved, halved.new_zeros(B, channels - x.shape[1], *halved.shape[2:])], dim=1)


def by_hand(state, x, n, normalization, residual, preactivation, training):
    """A network of 6n + 2 layers of tanh units, from the tensors of a state dict."""

    def norm(z, name):
        return normalized(z, state, name, normalization, training)

    a = norm(convolved(x, state, "stem"), "normalization").tanh()
    for stage, block in product(range(3), range(n)):
        name, stride = f"stages.{stage}.{block}.", 2 if stage and not block else 1
        if preactivation:
            z = norm(a, f"{name}normalization1").tanh() if stage or block else a
            z = norm(convolved(z, state, f"{name}conv1", stride), f"{name}normalization2").tanh()
            a = convolved(z, state, f"{name}conv2") + shortcut(a, WIDTH * 2**stage)
        else:
            z = norm(convolved(a, state, f"{name}conv1", stride), f"{name}normalization1").tanh()
            z = norm(convolved(z, state, f"{name}conv2"), f"{name}normalization2")
            a = (z + shortcut(a, WIDTH * 2**stage) if residual else z).tanh()
    if preactivation:
        a = norm(a, "last_normalization").tanh()
    return a.mean(tuple(range(2, a.dim()))) @ state["output.weight"].T + state["output.bias"]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("residual", "preactivation"), MODES, ids=NAMES)
@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
@SHAPES
def test_forward_is_the_formula(shape, normalization, residual, preactivation, training):
    mode = {"normalization": normalization, "residual": residual, "preactivation": preactivation}
    model, x = build(shape, num_layers=14, **mode).train(training), waves(B, *shape)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = by_hand(state, x, 2, *mode.values(), training)
    torch.testing.assert_close(model(x), expected, **exact)
    assert expected.std(0).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("residual", "preactivation"), MODES, ids=NAMES)
@pytest.mark.parametrize(
    ("num_layers", "count"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_parameters_are_as_many_as_in_the_paper(num_layers, count, residual, preactivation):
    model = CNN((3, 32, 32), 10, num_layers, residual=residual, preactivation=preactivation)
    assert sum(p.numel() for p in model.parameters()) == count
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == num_layers


@pytest.mark.parametrize(("normalization", "more"), [("none", -688), ("batch", 0), ("group", 0)])
def test_one_bias_replaces_a_normalizations_gain_and_shift(normalization, more):
    model = CNN((3, 32, 32), 10, normalization=normalization)
    assert sum(p.numel() for p in model.parameters()) == 269_722 + more  # 16 + 6 * (16 + 32 + 64) channels


@SHAPES
def test_each_stage_doubles_the_channels_and_halves_the_axes_of_the_one_before(shape):
    model, shapes = build(shape, num_layers=8), []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    model(waves(B, *shape))
    halves, quarters = ([-(-size // part) for size in shape[1:]] for part in (2, 4))
    assert shapes == [(B, 6, *shape[1:]), (B, 12, *halves), (B, 24, *quarters)]


@SHAPES
@pytest.mark.parametrize(
    ("task", "outputs", "logits"),
    [("binary", 1, (B,)), ("multiclass", 3, (B, 3)), ("regression", 1, (B, 1)), ("regression", 2, (B, 2))],
)
def test_logits_have_the_shape_of_the_task(shape, task, outputs, logits):
    model, x = CNN(shape, outputs, 8, training=Training(task=task)), waves(B, *shape).float()
    assert model(x).shape == logits
    assert model.eval()(x[:1]).shape == (1, *logits[1:])


def test_dropout_acts_on_what_the_output_reads():
    torch.manual_seed(7)
    model = CNN(IMAGES, 2, 8, normalization="group", training=Training(regularization=Regularization(dropout=0.2)))
    seen = []
    model.output.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = waves(B, *IMAGES).float()
    model.eval()(x)
    model.train()(x)
    torch.testing.assert_close(seen[1], torch.where(seen[1] == 0, 0, seen[0] / 0.8))
    assert 0 < (seen[1] == 0).float().mean() < 0.5


@SHAPES
@pytest.mark.parametrize(("scheme", "gain"), [("he_normal", 2), ("lecun_normal", 1)])
def test_initialization_reaches_every_layer(shape, scheme, gain):
    torch.manual_seed(7)
    model = CNN(shape, 307, 8, width=32, initialization=scheme)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            loose = 0.15 if name == "stem" else 0.03
            assert layer.weight.var().item() == pytest.approx(gain / layer.weight[0].numel(), rel=loose), name
            assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("preactivation", [False, True])
def test_auto_scales_the_branches_that_nothing_normalizes_and_says_so(preactivation, caplog):
    arguments = {"width": 64, "preactivation": preactivation}
    torch.manual_seed(7)
    with caplog.at_level(logging.INFO, logger="unvanish"):
        model = CNN(IMAGES, 3, 14, normalization="none", **arguments)
    said = "initialization auto: conv2 of each block divided by sqrt(6), as there is no normalization"
    assert caplog.messages == ["initialization auto: he_normal, which fits relu", said]
    torch.manual_seed(7)
    named = CNN(IMAGES, 3, 14, normalization="none", initialization="he_normal", **arguments)
    for (name, ours), theirs in zip(model.named_parameters(), named.parameters(), strict=True):
        factor = 6**-0.5 if name.endswith("conv2.weight") else 1
        torch.testing.assert_close(ours, factor * theirs)


@pytest.mark.parametrize("options", [{"residual": False, "normalization": "none"}, {}, {"normalization": "group"}])
def test_auto_is_the_scheme_that_fits_where_there_is_no_branch_or_it_is_normalized(options):
    networks = []
    for scheme in ("auto", "he_normal"):
        torch.manual_seed(7)
        networks.append(CNN(IMAGES, 3, 8, initialization=scheme, **options).state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize(("scheme", "least", "most"), [("he_normal", 1e4, 1e12), ("auto", 0.1, 10)])
def test_without_normalization_maps_grow_with_every_block_unless_auto_scales_them(scheme, least, most):
    torch.manual_seed(7)
    model, squares = CNN((3, 8, 8), 10, 56, normalization="none", initialization=scheme), []
    for stage in model.stages:
        for block in stage:
            block.register_forward_hook(lambda module, inputs, output: squares.append(output.square().mean().item()))
    model(torch.randn(16, 3, 8, 8))
    assert least < squares[-1] / squares[0] < most


def test_default_keeps_what_torch_drew():
    torch.manual_seed(7)
    model = CNN(IMAGES, 3, 8, initialization="default", normalization="none")
    assert model.stages[1][0].conv2.weight.abs().max().item() == pytest.approx((32 * 9) ** -0.5, rel=0.01)
    assert model.stages[1][0].conv2.bias.any()


def test_the_seed_alone_decides_the_weights():
    vectors = []
    for seed in (7, 7, 11):
        torch.manual_seed(seed)
        vectors.append(nn.utils.parameters_to_vector(CNN(IMAGES, 2, 8).parameters()))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@pytest.mark.parametrize(("residual", "preactivation"), MODES, ids=NAMES)
def test_the_gradient_instrument_sees_every_layer_with_its_activation(residual, preactivation):
    model = CNN(IMAGES, 3, 14, residual=residual, preactivation=preactivation)
    with GradientRecorder(model) as recorder:
        F.cross_entropy(model(waves(B, *IMAGES).float()), torch.arange(B)).backward()
        recorder.before_step(0)
    blocks = [f"stages.{stage}.{block}.conv{i}" for stage, block, i in product(range(3), range(2), (1, 2))]
    assert recorder.layers == ["stem", *blocks, "output"]
    assert recorder.activations == dict.fromkeys(["stem", *blocks], "relu") | {"output": "identity"}


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_a_checkpoint_holds_all_that_a_network_is(tmp_path):
    training = Training(optimizer=Optimizer("sgd", 0.1), regularization=Regularization(dropout=0.5, l2=0.1))
    arguments = {
        "input_shape": IMAGES,
        "output_size": 2,
        "num_layers": 8,
        "width": 3,
        "activation": "selu",
        "initialization": "orthogonal",
        "normalization": "group",
        "residual": True,
        "preactivation": True,
        "training": training,
    }
    assert set(arguments) == set(inspect.signature(CNN).parameters)
    model, x = CNN(**arguments), waves(7, *IMAGES).float()
    before = model.stem.weight.detach().clone()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    run.fit(model, BatchLoader((x, torch.arange(7) % 2), 7))
    assert not torch.equal(model.stem.weight, before)
    run.save_checkpoint(tmp_path / "run.ckpt")

    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = CNN.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert dict(loaded.hparams) == arguments
    assert torch.equal(loaded.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 21}, "num_layers is 21; three stages of 2n, the first and the last are 6n + 2: 20 or 26"),
        ({"num_layers": 18}, "num_layers is 18; three stages of 2n, the first and the last are 6n + 2: 14 or 20"),
        ({"num_layers": 2}, "num_layers is 2; three stages of 2n, the first and the last are 6n + 2: 8"),
        ({"num_layers": -4}, "num_layers is -4; three stages of 2n, the first and the last are 6n + 2: 8"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"residual": False, "preactivation": True}, "preactivation is about what stands between two shortcuts, and a"),
        (
            {"input_shape": (64,)},
            "input_shape is (64,); a convolutional network takes images (channels, height, width)",
        ),
        ({"input_shape": (8, 8)}, "input_shape is (8, 8); a convolutional network takes images (channels, height, "),
        ({"input_shape": (0, 8, 8)}, "input_shape is (0, 8, 8); a convolutional network takes images (channels, "),
        ({"input_shape": (1, 8, 3)}, "input_shape is (1, 8, 3); two stages halve each axis, so it must be 4 or longer"),
        ({"input_shape": (1, 3, 8, 8)}, "input_shape is (1, 3, 8, 8); two stages halve each axis, so it must be 4 or "),
        ({"activation": "reul"}, "unknown activation 'reul'; did you mean 'relu'?"),
        ({"activation": "softmax"}, "softmax is for outputs only"),
        ({"initialization": "he_norml"}, "unknown initialization 'he_norml'; did you mean 'he_normal'?"),
        (
            {"normalization": "bacth"},
            "unknown normalization 'bacth'; did you mean 'batch'? (known: none, batch, group)",
        ),
        ({"normalization": "layer"}, "normalization 'layer' is not for images: "),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        CNN(**{"input_shape": (1, 8, 8), "output_size": 3} | options)
