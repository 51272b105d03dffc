import copy
import io
import re

import pytest
import torch
from torch import nn, optim

from unvanish.training import Optimizer
from unvanish.training.muon import MuonWithAdamW, hidden_matrices

X, Y = torch.linspace(-2, 3, 35).view(7, 5).sin(), torch.linspace(-1, 1, 14).view(7, 2)


def network():
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return module


def descend(module, *optimizers, steps=5):
    """The parameters after each step, one row a step."""
    path = []
    for _ in range(steps):
        module.zero_grad()
        (module(X) - Y).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        path.append(nn.utils.parameters_to_vector(module.parameters()).detach().clone())
    return torch.stack(path)


def groups(module, weight_decay):
    weights, biases = ([getattr(module[i], name) for i in (0, 2, 4)] for name in ("weight", "bias"))
    return [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]


CLASSES = {"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW, "muon": MuonWithAdamW}


@pytest.mark.parametrize(("name", "kind"), [*CLASSES.items()])
def test_a_name_builds_its_class_with_the_learning_rate(name, kind):
    optimizer = Optimizer(name, 0.03).build(network())
    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.03}


def test_only_trainable_tensors_of_two_axes_or_more_decay():
    module = nn.Sequential(nn.Conv1d(2, 3, 5), nn.LayerNorm(3), nn.Embedding(7, 2), nn.Linear(3, 2), nn.Linear(2, 2))
    module[4].requires_grad_(False)
    found = [
        (group["weight_decay"], [tuple(p.shape) for p in group["params"]])
        for group in Optimizer("adamw").build(module, 0.1).param_groups
    ]
    assert found == [(0.1, [(3, 2, 5), (7, 2), (2, 3)]), (0.0, [(3,), (3,), (3,), (2,)])]


@pytest.mark.parametrize(
    ("name", "options", "weight_decay", "kind", "more"),
    [
        ("adam", {"betas": (0.8, 0.9)}, 0.0, optim.Adam, {}),
        ("adam", {"betas": (0.8, 0.9)}, 0.3, optim.AdamW, {}),
        ("adamw", {}, 0.3, optim.AdamW, {}),
        ("sgd", {"momentum": 0.7, "nesterov": True}, 0.0, optim.SGD, {}),
        ("rmsprop", {"alpha": 0.9}, 0.0, optim.RMSprop, {}),
        ("torch.optim.NAdam", {}, 0.3, optim.NAdam, {"decoupled_weight_decay": True}),
    ],
)
def test_steps_are_those_of_torch(name, options, weight_decay, kind, more):
    module, twin = network(), network()
    path = descend(module, Optimizer(name, 0.05, options).build(module, weight_decay))
    assert torch.equal(path, descend(twin, kind(groups(twin, weight_decay), lr=0.05, **options, **more)))


@pytest.mark.parametrize(
    ("of_muon", "of_adamw"),
    [({}, {}), ({"momentum": 0.7, "nesterov": False, "ns_steps": 3}, {"betas": (0.8, 0.9), "eps": 0.1})],
)
def test_muon_is_torch_muon_on_hidden_matrices_and_adamw_on_the_rest(of_muon, of_adamw):
    module, twin = network(), network()
    path = descend(module, Optimizer("muon", 0.05, of_muon | of_adamw).build(module, 0.3))
    weights, biases = groups(twin, 0.3)
    *hidden, output = weights["params"]
    muon = optim.Muon(hidden, 0.05, weight_decay=0.3, adjust_lr_fn="match_rms_adamw", **of_muon)
    adamw = optim.AdamW([{"params": [output], "weight_decay": 0.3}, biases], 0.05, **of_adamw)
    assert torch.equal(path, descend(twin, muon, adamw))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_kernels_of_a_convolution_are_one_matrix_of_muon(memory_format):
    module = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.Flatten(), nn.Linear(5 * 9, 2, bias=False))
    module.to(memory_format=memory_format)
    kernels, twin = module[0].weight, nn.Parameter(module[0].weight.detach().flatten(1))
    ours = Optimizer("muon", 0.05).build(module, 0.3)
    theirs = optim.Muon([twin], 0.05, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    x = torch.linspace(-2, 3, 2 * 75).sin().view(2, 3, 5, 5)
    for _ in range(3):
        module(x).square().sum().backward()
        twin.grad = kernels.grad.flatten(1)
        ours.step()
        theirs.step()
        assert torch.equal(kernels.flatten(1), twin)


def test_muon_leaves_embeddings_grouped_convolutions_and_the_output_layer_to_adamw():
    convolutions = nn.Conv1d(4, 6, 3), nn.Conv1d(6, 6, 3, groups=2)
    module = nn.Sequential(nn.Embedding(7, 5), *convolutions, nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 7))
    assert [id(p) for p in hidden_matrices(module)] == [id(module[1].weight), id(module[3].weight)]


def test_muon_continues_from_its_state_as_if_never_interrupted():
    recipe, module = Optimizer("muon", 0.05), network()
    optimizer = recipe.build(module, 0.3)
    descend(module, optimizer, steps=3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(module)
    restored = recipe.build(resumed)
    restored.load_state_dict(torch.load(file, weights_only=True))
    fresh = copy.deepcopy(module)
    rest = descend(module, optimizer)
    assert torch.equal(rest, descend(resumed, restored))
    assert not torch.equal(rest, descend(fresh, recipe.build(fresh, 0.3)))


def test_a_copy_of_muon_takes_the_same_steps():
    module = network()
    optimizer = Optimizer("muon", 0.05).build(module)
    descend(module, optimizer, steps=3)
    copied_module, copied = copy.deepcopy((module, optimizer))
    assert torch.equal(descend(module, optimizer), descend(copied_module, copied))


def test_muon_evaluates_a_closure_once_and_returns_its_loss():
    module, losses = network(), []

    def closure():
        loss = (module(X) - Y).square().mean()
        loss.backward()
        losses.append(loss.item())
        return losses[-1]

    assert [Optimizer("muon").build(module).step(closure)] == losses


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.0"), (-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_a_learning_rate_that_is_not_positive_is_refused(value, shown):
    with pytest.raises(ValueError, match=f"^optimizer.learning_rate is {shown}; it must be finite and positive$"):
        Optimizer(learning_rate=value)


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "message"),
    [
        (Optimizer("adm"), 0.0, "unknown optimizer 'adm'; did you mean 'adam'? (known: sgd, "),
        (Optimizer("sgd", options={"momentun": 0.9}), 0.0, "'sgd' takes no option 'momentun'; did you mean 'momentum'"),
        (Optimizer("adam", options={"lr": 0.1}), 0.0, "optimizer 'adam' takes no option 'lr'"),
        (Optimizer("adam", options={"weight_decay": 0.1}), 0.0, "optimizer 'adam' takes no option 'weight_decay'"),
        (Optimizer("sgd", options={"momentum": "high"}), 0.0, "optimizer 'sgd': "),
        (Optimizer("sgd"), 0.1, "has no decoupled weight decay: take adam, adamw or muon, or say regularization.l2"),
        (Optimizer("rmsprop"), 0.1, "'rmsprop' has no decoupled weight decay"),
        (Optimizer("torch.optim.Adamm"), 0.0, "optimizer 'torch.optim.Adamm' cannot be imported: "),
        (Optimizer("torch.nn.Linear"), 0.0, "'torch.nn.Linear' is no Optimizer: it is the class Linear"),
        (Optimizer("torch.nn.init"), 0.0, "'torch.nn.init' is of type module, neither a class nor a function"),
    ],
)
def test_optimizers_that_cannot_be_are_refused(optimizer, weight_decay, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.build(network(), weight_decay)


def test_muon_without_hidden_matrices_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer 'muon' is for hidden matrices, and this network has none$"):
        Optimizer("muon").build(nn.Linear(3, 2))
