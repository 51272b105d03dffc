import inspect
import random
import re
import sys

import numpy as np
import pytest
import timm
import torch
import torchvision
from lightning import Trainer
from torch import nn

from unvanish.command.main import main
from unvanish.networks.wrap import Wrap
from unvanish.training import Regularization, Training

DROPOUT = Regularization(dropout=0.5)
RESNET = "torchvision.models.resnet18"
TIMM = {"model_name": "resnet10t"}
PLAIN = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 1, "hidden_dim": 6, "mlp_dim": 5}
SWIN = {"patch_size": [2, 2], "embed_dim": 6, "depths": [2], "num_heads": [2], "window_size": [2, 2]}
MODULES = {
    "fc": (RESNET, {}),
    "classifier": ("torchvision.models.DenseNet", {"growth_rate": 2, "block_config": [1], "num_init_features": 3}),
    "classifier.3": ("torchvision.models.mobilenet_v3_small", {}),
    "heads.head": ("torchvision.models.VisionTransformer", PLAIN),
    "head": ("torchvision.models.SwinTransformer", SWIN),
}


class Mine(nn.Module):
    """Tables of three columns; with a state that a forward pass changes, and all the randomness there is."""

    def __init__(self, outputs=4, width=5):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.body, self.fc = nn.Linear(3, width), nn.Linear(width, outputs)

    def forward(self, x):
        self.calls += 1
        noise = torch.rand(()) * random.random() * np.random.rand()
        return self.fc(self.body(x)) + noise * 0


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.LazyLinear(5), nn.BatchNorm1d(5)), nn.LazyLinear(4)

    def forward(self, x):
        return self.head(self.body(x))


class Tokens(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.embedding, self.head = nn.Embedding(words, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.embedding(x))


class Column(nn.Linear):
    def forward(self, x):
        return super().forward(x).squeeze(1)


class Frozen(Mine):
    def __init__(self):
        super().__init__(2)
        self.body.eval()


class Named(Mine):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Auxiliary(Mine):
    def forward(self, x):
        return (super().forward(x), x) if self.training else super().forward(x)


class Broken(nn.Module):
    def __init__(self):
        raise KeyError("two\nlines")


GIVEN = Mine()
HERE = __name__


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    monkeypatch.setenv("UNVANISH_TRUST", HERE)


def build(path, arguments=None, shape=(3,), outputs=4, **options):
    return Wrap(shape, outputs, path if "." in path else f"{HERE}.{path}", arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("head", MODULES)
def test_the_head_of_torchvision_is_made_for_the_data_and_all_else_is_its_own(head):
    path, arguments = MODULES[head]
    torch.manual_seed(7)
    model = build(path, arguments, (3, 8, 8), 11)
    torch.manual_seed(7)
    theirs = getattr(torchvision.models, path.rpartition(".")[2])(**arguments)
    old = theirs.get_submodule(head)
    assert old.out_features == 1000
    for name, tensor in theirs.state_dict().items():
        if not name.startswith(f"{head}."):
            assert torch.equal(model.module.state_dict()[name], tensor), name
    theirs.set_submodule(head, nn.Linear(old.in_features, 11))
    theirs.load_state_dict(model.module.state_dict())
    x = torch.randn(5, 3, 8, 8)
    assert model.eval()(x).shape == (5, 11)
    assert torch.equal(model(x), theirs.eval()(x))


def test_timm_resets_its_own_classifier():
    model = build("timm.create_model", TIMM, (3, 32, 32), 7).eval()
    theirs = timm.create_model("resnet10t", num_classes=7).eval()
    theirs.load_state_dict(model.module.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), theirs(x))


def test_a_module_that_fits_is_left_as_it_is_and_looking_at_it_changes_nothing():
    states = []
    for make in (lambda: Mine(4), lambda: build("Mine", {"outputs": 4}).module):
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        module = make()
        states.append((module.state_dict(), torch.rand(()), random.random(), np.random.rand()))
    (theirs, *their_draws), (ours, *our_draws) = states
    assert our_draws == their_draws
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not ours["calls"]


def test_what_the_module_says_of_its_modes_stays():
    model = build("Frozen", outputs=5)
    assert not model.module.body.training
    assert model.module.fc.training


def test_a_bias_that_is_not_there_is_not_added():
    path, arguments = MODULES["head"]
    with_bias = build(path, arguments, (3, 8, 8), 11)
    assert with_bias.module.head.bias is not None
    model = build("timm.create_model", {**TIMM, "num_classes": 0}, (3, 32, 32), 7)
    assert model.module.get_classifier().out_features == 7


@pytest.mark.slow
def test_images_of_one_channel_are_repeated_where_three_are_wanted_and_only_there():
    torch.manual_seed(7)
    model = build(RESNET, shape=(1, 8, 8)).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model(x), model.module(x.repeat(1, 3, 1, 1)))
    one = build("timm.create_model", {**TIMM, "in_chans": 1}, shape=(1, 32, 32)).eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(one(x), one.module(x))
    clips = build("torchvision.models.video.r3d_18", shape=(1, 2, 8, 8)).eval()
    x = torch.randn(2, 1, 2, 8, 8)
    assert torch.equal(clips(x), clips.module(x.repeat(1, 3, 1, 1, 1)))


@pytest.mark.parametrize(
    ("path", "task", "outputs", "shape"),
    [
        ("Mine", "multiclass", 4, (7, 4)),
        ("Mine", "multiclass", 3, (7, 3)),
        ("Mine", "binary", 1, (7,)),
        ("Mine", "regression", 1, (7, 1)),
        ("Mine", "regression", 2, (7, 2)),
        ("Lazy", "multiclass", 3, (7, 3)),
        ("Tokens", "next_token", 5, (7, 3, 5)),
    ],
)
def test_logits_have_the_shape_of_the_task(path, task, outputs, shape):
    tokens = path == "Tokens"
    model = build(
        path,
        {"words": 5} if tokens else None,
        outputs=outputs,
        vocabulary_size=5 if tokens else None,
        training=Training(task),
    )
    x = torch.randint(5, (7, 3)) if tokens else torch.randn(7, 3)
    assert model(x).shape == shape
    assert model.eval()(x[:1]).shape == (1, *shape[1:])
    assert all(parameter.numel() for parameter in model.parameters())


def test_a_module_of_one_output_without_an_axis_serves_a_binary_task():
    model = build("Column", {"in_features": 3, "out_features": 1}, outputs=1, training=Training("binary"))
    x = torch.randn(7, 3)
    assert torch.equal(model(x), model.module(x))


@pytest.mark.parametrize("head", MODULES)
def test_dropout_acts_on_what_the_head_reads(head):
    path, arguments = MODULES[head]
    model = build(path, arguments, (3, 8, 8), 11, training=Training(regularization=DROPOUT)).eval()
    read = []
    last = model.module.get_submodule(head)
    last.register_forward_hook(lambda module, x, y: read.append(x[0]))
    last[1].register_forward_hook(lambda module, x, y: read.append(x[0]))
    x = torch.randn(2, 3, 8, 8)
    model(x)
    last.train()  # alone: the module's own dropout and normalization stay as they are
    model(x)
    same, whole, after, before = read
    assert torch.equal(whole, same)
    assert torch.equal(before, whole)
    assert torch.equal(after, torch.where(after == 0, 0, 2 * before))
    assert not torch.equal(after, 2 * before)


def test_dropout_acts_in_a_module_of_timm_and_in_one_that_fits():
    for path, arguments, shape in (("timm.create_model", TIMM, (3, 32, 32)), ("Mine", {"outputs": 4}, (3,))):
        model = build(path, arguments, shape, training=Training(regularization=DROPOUT))
        drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        assert [drop.p for drop in drops] == [0.5]


def test_a_checkpoint_holds_all_that_a_network_is(tmp_path):
    arguments = {
        "input_shape": (3,),
        "output_size": 2,
        "module": f"{HERE}.Mine",
        "arguments": {"width": 7},
        "weights": None,
        "vocabulary_size": None,
        "training": Training(regularization=DROPOUT),
    }
    assert set(arguments) == set(inspect.signature(Wrap).parameters)
    model = Wrap(**arguments)
    run = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    run.strategy.connect(model)
    run.save_checkpoint(tmp_path / "run.ckpt")
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = Wrap.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert dict(loaded.hparams) == arguments
    x = torch.randn(5, 3)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("torchvision.models.resnet81", {}, "has no attribute 'resnet81'; did you mean 'resnet18'?"),
        ("torchvision.modls.resnet18", {}, "has no attribute 'modls'; did you mean 'models'?"),
        ("torchvison.models.resnet18", {}, "there is no module 'torchvison'; did you mean 'torchvision'?"),
        ("not a path.", {}, "module 'not a path.' is no dotted name"),
        ("torchvision.models", {}, "module 'torchvision.models' is of type module, neither a class nor a function"),
        ("GIVEN", {}, "GIVEN' is of type Mine, neither a class nor a function"),
        ("os.getcwd", {}, "module 'os.getcwd' is a part of Python, of which a recipe may name nothing"),
        ("builtins.exec", {}, "is a part of Python"),
        ("Mine", {"arguments": {"widht": 3}}, "unexpected keyword argument 'widht'; did you mean 'width'?"),
        (
            RESNET,
            {"arguments": {"weights": "DEFALT"}},
            "cannot be built with {'weights': 'DEFALT'}: KeyError: 'DEFALT'",
        ),
        ("timm.create_model", {"arguments": {"model_name": "resnet10"}}, "RuntimeError: Unknown model (resnet10)"),
        ("Broken", {}, "cannot be built with {}: KeyError: 'two\\nlines'"),
        ("Mine", {"shape": (5,)}, "Mine does not take a batch of (2, 5): RuntimeError: "),
        ("Named", {}, "Named returns dict in training, and not one tensor of logits"),
        ("Auxiliary", {}, "Auxiliary returns tuple in training, and not one tensor of logits"),
        (RESNET, {"shape": (5, 8, 8)}, "resnet18 reads 3 channels and the data has 5: it needs an argument"),
        (
            "torchvision.models.googlenet",
            {"shape": (3, 32, 32), "arguments": {"init_weights": False}},
            "googlenet returns GoogLeNetOutputs in training, and not one tensor of logits; if it has auxiliary",
        ),
        (
            "torchvision.models.squeezenet1_1",
            {"shape": (3, 32, 32)},
            "squeezenet1_1 returns (2, 1000) for a batch of (2, 3, 32, 32), and no linear layer ends its fc or "
            "classifier or heads.head or head; task multiclass with output_size 4 wants (2, 4)",
        ),
        ("Mine", {"shape": (7, 3)}, "Mine returns (2, 7, 4) for a batch of (2, 7, 3), also with a new head; task"),
        (
            "Column",
            {"arguments": {"in_features": 3, "out_features": 1}, "outputs": 1, "training": Training("regression")},
            "Column returns (2,) for a batch of (2, 3), and no linear layer",
        ),
        (
            "torch.nn.Linear",
            {"arguments": {"in_features": 3, "out_features": 4}, "training": Training(regularization=DROPOUT)},
            "dropout has no place in torch.nn.Linear: it goes before the last linear layer",
        ),
        ("Mine", {"outputs": 0}, "output_size is 0; it must be at least 1"),
    ],
)
def test_modules_that_do_not_fit_are_refused_in_one_line(path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        build(path, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ['--model.arguments={"model_name": "resnet10t", "drop_rate": 0.25}'],
        ["--model.arguments.model_name=resnet10t", "--model.arguments.drop_rate=0.25"],
        ["-c", "over.yaml"],
        ["-c", "over.yaml", "--model.arguments.drop_rate=0.25"],
    ],
    ids=["one word", "dotted", "file", "file and dotted"],
)
def test_the_command_line_trains_any_module(workplace, capsys, words):
    (workplace / "over.yaml").write_text("model: {arguments: {model_name: resnet10t, drop_rate: 0.25}}")
    (workplace / "wrap.yaml").write_text(
        "model: {class_path: unvanish.networks.wrap.Wrap, module: timm.create_model}\n"
        "data: {class_path: unvanish.Images, dataset: digits}\n"
        "trainer: {max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, log_every_n_steps: 1}"
    )
    assert main(["fit", "-c", "wrap.yaml", "--no-gradients", *words]) == 0
    count = sum(parameter.numel() for parameter in timm.create_model("resnet10t", num_classes=10).parameters())
    assert f"Wrap with {count:,} parameters" in capsys.readouterr().out
    config = (workplace / "runs/wrap/1/config.yaml").read_text()
    assert "  arguments:\n    model_name: resnet10t\n    drop_rate: 0.25\n" in config
    assert main(["test", "-c", "wrap.yaml"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.module=torchvision.models.resnet81"], "has no attribute 'resnet81'; did you mean 'resnet18'?"),
        ([f"--model.module={RESNET}", "--model.arguments=x"], "model.arguments is 'x', expected dict"),
        ([f"--model.module={RESNET}", "--model.arguments.widht=1"], "unexpected keyword argument 'widht'"),
        ([], "model.module"),
    ],
)
def test_the_command_line_refuses_a_module_in_one_line(workplace, capsys, words, message):
    (workplace / "wrap.yaml").write_text(
        "model: {class_path: unvanish.networks.wrap.Wrap}\ndata: {class_path: unvanish.Images, dataset: digits}"
    )
    assert main(["fit", "-c", "wrap.yaml", *words]) == 2
    answer = capsys.readouterr().err
    assert message in answer
    assert answer.count("\n") == 1
    assert not (workplace / "runs").exists()
