import inspect
import re
from itertools import pairwise

import pytest
import torch
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.networks import MLP
from unvanish.training import Optimizer, Regularization, Schedule, Training

X = torch.linspace(-2, 3, 35, dtype=torch.float64).sin().view(7, 5, 1)


def by_hand(weights, x, normalization, residual, training):
    """An MLP 5-5-5-3-3-2 of tanh units, from the tensors of a state dict."""
    a = x.flatten(1)
    for depth in range(4):
        layer = {name.split(".", 2)[2]: w for name, w in weights.items() if name.startswith(f"hidden.{depth}.")}
        z = a @ layer["linear.weight"].T + layer["linear.bias"]
        if normalization != "none":
            axis = 0 if normalization == "batch" else 1
            mean, variance = z.mean(axis, keepdim=True), z.var(axis, correction=0, keepdim=True)
            if normalization == "batch" and not training:
                mean, variance = layer["normalization.running_mean"], layer["normalization.running_var"]
            z = (z - mean) / (variance + 1e-5).sqrt()
            z = z * layer["normalization.weight"] + layer["normalization.bias"]
        a = z.tanh() + (a if residual and depth in (1, 3) else 0)
    return a @ weights["output.weight"].T + weights["output.bias"]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_forward_is_the_formula(normalization, residual, training):
    model = MLP((5, 1), 2, [5, 5, 3, 3], activation="tanh", normalization=normalization, residual=residual).double()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                low = 0.5 if name.endswith("running_var") else -1
                tensor.copy_(torch.linspace(low, 1.5, tensor.numel()).view_as(tensor))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits = model.train(training)(X)
    torch.testing.assert_close(logits, by_hand(weights, X, normalization, residual, training))


@pytest.mark.parametrize(("normalization", "gains_and_shifts"), [("none", 0), ("batch", 2), ("layer", 2)])
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"hidden_sizes": [7, 11]}, [7, 11]),
        ({"hidden_sizes": 7}, [7]),
        ({"hidden_sizes": 7, "num_layers": 4}, [7, 7, 7]),
        ({"hidden_sizes": 7, "num_layers": 1}, []),
        ({"hidden_sizes": []}, []),
    ],
    ids=str,
)
def test_parameters_are_as_many_as_the_sizes_say(sizes, expected, normalization, gains_and_shifts):
    model = MLP((2, 3), 5, normalization=normalization, **sizes)
    widths = [6, *expected, 5]
    count = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
    assert sum(p.numel() for p in model.parameters()) == count + gains_and_shifts * sum(expected)


@pytest.mark.parametrize(
    ("task", "outputs", "shape"),
    [("binary", 1, (7,)), ("multiclass", 3, (7, 3)), ("regression", 1, (7, 1)), ("regression", 2, (7, 2))],
)
def test_logits_have_the_shape_of_the_task(task, outputs, shape):
    model = MLP((5, 1), outputs, [3], training=Training(task=task))
    assert model(X.float()).shape == shape
    assert model(X[:1].float()).shape == (1, *shape[1:])


def test_dropout_zeroes_units_in_training_and_keeps_their_mean():
    model = MLP((1,), 1, 100_003, training=Training(regularization=Regularization(dropout=0.2)))
    nn.init.zeros_(model.hidden[0].linear.weight)
    nn.init.ones_(model.hidden[0].linear.bias)
    a = model.train().hidden(torch.zeros(1, 1))
    assert a.unique().tolist() == [0, 1.25]
    assert a.mean().item() == pytest.approx(1, abs=0.01)
    assert a.var().item() == pytest.approx(0.2 / 0.8, abs=0.01)
    assert model.eval().hidden(torch.zeros(1, 1)).unique().tolist() == [1]


@pytest.mark.parametrize(("dropout", "count"), [(0.0, 0), (0.5, 3)])
def test_every_hidden_layer_drops_out_and_none_without_dropout(dropout, count):
    model = MLP((5, 1), 2, [3, 5, 7], training=Training(regularization=Regularization(dropout=dropout)))
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == count


def test_initialization_reaches_every_layer():
    torch.manual_seed(7)
    model = MLP((211,), 307, [401], initialization="lecun_normal")
    for linear, fan_in in ((model.hidden[0].linear, 211), (model.output, 401)):
        assert linear.weight.var().item() == pytest.approx(1 / fan_in, rel=0.03)
        assert not linear.bias.any()


def test_the_seed_alone_decides_the_weights():
    vectors = []
    for seed in (7, 7, 11):
        torch.manual_seed(seed)
        vectors.append(nn.utils.parameters_to_vector(MLP((5,), 2, [3, 3]).parameters()))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_checkpoint_holds_all_that_a_network_is(tmp_path, optimizer):
    training = Training(
        optimizer=Optimizer(optimizer, 0.1, {"betas": (0.8, 0.9)}),
        regularization=Regularization(dropout=0.5, l2=0.1, max_norm=3.0),
        schedule=Schedule("cosine", warmup_steps=1),
    )
    arguments = {
        "input_shape": (5, 1),
        "output_size": 2,
        "hidden_sizes": 3,
        "num_layers": 3,
        "activation": "selu",
        "initialization": "orthogonal",
        "normalization": "batch",
        "residual": True,
        "training": training,
    }
    assert set(arguments) == set(inspect.signature(MLP).parameters)
    model = MLP(**arguments)
    before = model.output.weight.detach().clone()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    run.fit(model, BatchLoader((X.float(), torch.arange(7) % 2), 7))
    assert not torch.equal(model.output.weight, before)
    run.save_checkpoint(tmp_path / "run.ckpt")

    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = MLP.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert loaded.settings == training
    assert dict(loaded.hparams) == arguments
    assert torch.equal(loaded.eval()(X.float()), model.eval()(X.float()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": 0}, "hidden_sizes is [0]; every layer needs at least one unit"),
        ({"hidden_sizes": [3, 0, 5]}, "hidden_sizes is [3, 0, 5]; every layer needs at least one unit"),
        ({"hidden_sizes": [3], "num_layers": 2}, "num_layers goes with one number as hidden_sizes; a list says the"),
        ({"hidden_sizes": 3, "num_layers": 0}, "num_layers is 0; there is always an output layer"),
        ({"hidden_sizes": [5, 3, 7], "residual": True}, "residual adds a hidden layer's input to its output: two "),
        ({"hidden_sizes": [5], "residual": True}, "residual adds a hidden layer's input to its output: two "),
        ({"activation": "reul"}, "unknown activation 'reul'; did you mean 'relu'?"),
        ({"activation": "softmax"}, "softmax is for outputs only"),
        ({"initialization": "he_norml"}, "unknown initialization 'he_norml'; did you mean 'he_normal'?"),
        ({"normalization": "bacth"}, "unknown normalization 'bacth'; did you mean 'batch'? (known: none, "),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        MLP((5,), 2, **{"hidden_sizes": [3]} | options)
