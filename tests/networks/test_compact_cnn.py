import inspect
import re

import pytest
import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.gradients import GradientRecorder
from unvanish.networks.compact_cnn import CompactCNN
from unvanish.training import Optimizer, Regularization, Training

B = 3
IMAGES, CLIPS = (2, 11, 9), (2, 8, 9, 11)
SHAPES = pytest.mark.parametrize("shape", [IMAGES, CLIPS], ids=["images", "clips"])
exact = {"rtol": 0, "atol": 1e-10}


def waves(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).mul(0.7).sin().view(shape)


def normalized(z, state, name, normalization, training):
    if normalization == "none":
        return z
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if normalization == "group":
        return F.group_norm(z, 2, weight, bias)
    mean, variance = (state[f"{name}.running_{what}"].clone() for what in ("mean", "var"))
    return F.batch_norm(z, mean, variance, weight, bias, training)


OPERATIONS = {4: (F.conv2d, F.max_pool2d), 5: (F.conv3d, F.max_pool3d)}


def by_hand(state, x, normalization, residual, training):
    """Three stages of 6 channels and tanh units, from the tensors of a state dict."""
    convolve, pool = OPERATIONS[x.dim()]
    for stage in range(3):
        name = f"stages.{stage}."
        z = convolve(x, state[f"{name}conv.weight"], state.get(f"{name}conv.bias"), padding=1)
        a = normalized(pool(z, 2), state, f"{name}normalization", normalization, training).tanh()
        x = a + pool(x, 2) if residual and stage else a
    return x.flatten(1) @ state["output.weight"].T + state["output.bias"]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
@SHAPES
def test_forward_is_the_formula(shape, normalization, residual, training):
    torch.manual_seed(7)
    model = CompactCNN(shape, 5, [6, 6, 6], "tanh", normalization=normalization, residual=residual).double()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() == 1 and tensor.is_floating_point():
                low = 0.5 if name.endswith("running_var") else -1
                tensor.copy_(torch.linspace(low, 1.5, tensor.numel()))
    state, x = {name: tensor.clone() for name, tensor in model.state_dict().items()}, waves(B, *shape)
    expected = by_hand(state, x, normalization, residual, training)
    torch.testing.assert_close(model.train(training)(x), expected, **exact)
    assert expected.std(0).min() > 1e-3


@pytest.mark.parametrize("shape", [(2, 11, 9), (2, 7, 6, 11)], ids=["images", "clips"])
def test_a_stem_is_a_convolution_of_its_size_with_stride_2_and_no_pool(shape):
    torch.manual_seed(7)
    model, x = CompactCNN(shape, 5, [3, 7], "tanh", normalization="none", stem_kernel_size=5).double(), waves(B, *shape)
    state, (convolve, pool) = model.state_dict(), OPERATIONS[x.dim()]
    a = convolve(x, state["stages.0.conv.weight"], state["stages.0.conv.bias"], stride=2, padding=2).tanh()
    z = convolve(a, state["stages.1.conv.weight"], state["stages.1.conv.bias"], padding=1)
    expected = pool(z, 2).tanh().flatten(1) @ state["output.weight"].T + state["output.bias"]
    torch.testing.assert_close(model(x), expected, **exact)


def test_only_equal_neighbours_are_residual_and_never_the_first_stage():
    model = CompactCNN((3, 32, 32), 2, [3, 5, 5, 3, 3], residual=True)
    assert [stage.residual for stage in model.stages] == [False, False, True, False, True]


@pytest.mark.parametrize(("normalization", "of_a_channel"), [("none", 1), ("batch", 2), ("group", 2)])
@pytest.mark.parametrize(("shape", "kernel", "points"), [((1, 28, 28), 9, 9), ((1, 8, 17, 31), 27, 1 * 2 * 3)])
def test_parameters_are_as_many_as_the_sizes_say(shape, kernel, points, normalization, of_a_channel):
    model = CompactCNN(shape, 10, [16, 32, 64], normalization=normalization)
    weights = kernel * (1 * 16 + 16 * 32 + 32 * 64) + 10 * (64 * points + 1)
    assert sum(p.numel() for p in model.parameters()) == weights + of_a_channel * (16 + 32 + 64)


@SHAPES
@pytest.mark.parametrize(
    ("task", "outputs", "logits"),
    [("binary", 1, (B,)), ("multiclass", 3, (B, 3)), ("regression", 1, (B, 1)), ("regression", 2, (B, 2))],
)
def test_logits_have_the_shape_of_the_task(shape, task, outputs, logits):
    model, x = CompactCNN(shape, outputs, [3, 5], training=Training(task=task)), waves(B, *shape).float()
    assert model(x).shape == logits
    assert model(x[:1]).shape == (1, *logits[1:])


def test_dropout_acts_on_what_the_output_reads():
    torch.manual_seed(7)
    model = CompactCNN(IMAGES, 2, [64], "selu", training=Training(regularization=Regularization(dropout=0.2)))
    seen = []
    model.output.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.dropout.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.train()(waves(B, *IMAGES).float())
    torch.testing.assert_close(seen[1], torch.where(seen[1] == 0, 0, seen[0] / 0.8))
    assert (seen[1] == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)


@SHAPES
def test_initialization_reaches_every_layer(shape):
    torch.manual_seed(7)
    model = CompactCNN(shape, 307, [64, 128], initialization="lecun_normal", normalization="none")
    for layer in (*(stage.conv for stage in model.stages), model.output):
        assert layer.weight.var().item() == pytest.approx(1 / layer.weight[0].numel(), rel=0.1)
        assert not layer.bias.any()


def test_the_seed_alone_decides_the_weights():
    vectors = []
    for seed in (7, 7, 11):
        torch.manual_seed(seed)
        vectors.append(nn.utils.parameters_to_vector(CompactCNN(IMAGES, 2, [3, 3]).parameters()))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@SHAPES
def test_the_maps_have_their_channels_side_by_side_also_behind_a_single_one(shape):
    model, strides = CompactCNN((1, *shape[1:]), 2, [3, 5]), []
    for stage in model.stages:
        stage.conv.register_forward_hook(lambda module, inputs, output: strides.append(output.stride()[1]))
    model(waves(B, 1, *shape[1:]).float())
    assert strides == [1, 1]


def test_the_gradient_instrument_sees_every_layer_with_its_activation():
    model = CompactCNN(IMAGES, 3, [5, 7, 7], residual=True)
    with GradientRecorder(model) as recorder:
        F.cross_entropy(model(waves(B, *IMAGES).float()), torch.arange(B)).backward()
        recorder.before_step(0)
    assert recorder.layers == ["stages.0.conv", "stages.1.conv", "stages.2.conv", "output"]
    assert recorder.activations == dict.fromkeys(recorder.layers[:3], "relu") | {"output": "identity"}


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_a_checkpoint_holds_all_that_a_network_is(tmp_path):
    training = Training(optimizer=Optimizer("sgd", 0.1), regularization=Regularization(dropout=0.5, l2=0.1))
    arguments = {
        "input_shape": CLIPS,
        "output_size": 2,
        "channels": [3, 5, 5],
        "activation": "gelu",
        "initialization": "orthogonal",
        "normalization": "batch",
        "residual": True,
        "stem_kernel_size": 3,
        "training": training,
    }
    assert set(arguments) == set(inspect.signature(CompactCNN).parameters)
    model, x = CompactCNN(**arguments), waves(7, *CLIPS).float()
    before = model.output.weight.detach().clone()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    run.fit(model, BatchLoader((x, torch.arange(7) % 2), 7))
    assert not torch.equal(model.output.weight, before)
    run.save_checkpoint(tmp_path / "run.ckpt")

    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = CompactCNN.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert dict(loaded.hparams) == arguments
    assert torch.equal(loaded.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, "channels is []; it needs a stage, and every stage a channel"),
        ({"channels": [3, 0]}, "channels is [3, 0]; it needs a stage, and every stage a channel"),
        (
            {"channels": [2, 3, 5, 7]},
            "channels has 4 stages, and each halves every axis: an input of shape (1, 9, 15) ",
        ),
        ({"input_shape": (1, 1, 9, 9)}, "channels has 2 stages, and each halves every axis: an input of shape (1, 1, "),
        ({"channels": [1, 3, 5], "residual": True}, "residual adds a stage's input to its output: two neighbours in "),
        ({"channels": [1], "residual": True}, "residual adds a stage's input to its output: two neighbours in "),
        ({"output_size": 0}, "output_size is 0; it must be at least 1"),
        ({"stem_kernel_size": 4}, "stem_kernel_size is 4; it must be an odd number"),
        (
            {"input_shape": (64,)},
            "input_shape is (64,); a convolutional network takes images (channels, height, width)",
        ),
        ({"activation": "reul"}, "unknown activation 'reul'; did you mean 'relu'?"),
        ({"initialization": "he_norml"}, "unknown initialization 'he_norml'; did you mean 'he_normal'?"),
        ({"normalization": "layer"}, "normalization 'layer' is not for images: "),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        CompactCNN(**{"input_shape": (1, 9, 15), "output_size": 3, "channels": [3, 5]} | options)
