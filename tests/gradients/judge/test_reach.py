"""Weights that nothing will ever change."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, WIDTH, adam, classes, ill, mlp, near, sgd, trained

from unvanish.gradients.judge.rules import DISCONNECTED, NOT_OPTIMIZED, UNKNOWN_WEIGHTS


class Parts(nn.Module):
    """Two layers, and what is done between them."""

    def __init__(self, between, **others):
        super().__init__()
        self.between = between
        self.a, self.b = nn.Linear(COLUMNS, WIDTH), nn.Linear(WIDTH, CLASSES)
        for name, other in others.items():
            setattr(self, name, other)

    def forward(self, x):
        return self.b(self.between(self, self.a(x).relu()))


@ill(UNKNOWN_WEIGHTS)
def test_layers_in_a_python_list():
    layers = [nn.Linear(WIDTH, WIDTH)]
    model = Parts(lambda m, h: layers[0](h).relu())
    run = trained(model, classes(), F.cross_entropy, sgd(model))
    assert layers[0].weight.grad.any()
    shapes = ", ".join(str(tuple(parameter.shape)) for parameter in layers[0].parameters())
    return run.end, f"2 weights in the loss that the model does not know: {shapes}"


@near(UNKNOWN_WEIGHTS)
def test_an_input_that_wants_a_gradient_itself():
    x, y = classes()
    model = mlp()
    run = trained(model, lambda step: (x.clone().requires_grad_(), y), F.cross_entropy, adam(model, 0.03), 80)
    assert x.shape != model[0].weight.shape
    return run.end


@near(UNKNOWN_WEIGHTS)
def test_an_input_of_a_weight_s_shape_that_wants_a_gradient_itself():
    x, y = classes(WIDTH * 4)
    model = mlp(width=WIDTH * 4)
    assert x.shape == model[0].weight.shape
    return trained(model, lambda step: (x.clone().requires_grad_(), y), F.cross_entropy, adam(model, 0.03), 80).end


@ill(UNKNOWN_WEIGHTS)
def test_a_layer_that_is_made_anew_in_each_forward_pass():
    model = Parts(lambda m, h: nn.Linear(WIDTH, WIDTH)(h).relu())
    shapes = f"({WIDTH}, {WIDTH}), ({WIDTH},)"
    run = trained(model, classes(), F.cross_entropy, sgd(model))
    return run.end, f"2 weights in the loss that the model does not know: {shapes}"


@near(UNKNOWN_WEIGHTS)
def test_a_generator_whose_loss_an_adversary_tells():
    judge = mlp()
    model = nn.Sequential(nn.Linear(COLUMNS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, COLUMNS))
    x, y = classes()
    run = trained(model, (x, y), lambda z, y: F.cross_entropy(judge(z), y), adam(model, 0.03), 80)
    assert judge[0].weight.grad.any()
    return run.end


@ill(DISCONNECTED)
def test_an_argmax_between_layers():
    model = Parts(lambda m, h: F.one_hot(h.argmax(-1), WIDTH).float())
    run = trained(model, classes(), F.cross_entropy, sgd(model))
    assert [name for name, p in model.named_parameters() if p.grad is None] == ["a.weight", "a.bias"]
    return run.end, "no gradient comes to a"


@ill(DISCONNECTED)
def test_a_detour_over_numpy():
    model = Parts(lambda m, h: torch.from_numpy(h.detach().numpy()))
    return trained(model, classes(), F.cross_entropy, sgd(model)).end, "no gradient comes to a"


class Blind(nn.Module):
    """What runs under ``no_grad``, and what comes after it or beside it."""

    def __init__(self, *, is_teacher=False):
        super().__init__()
        self.is_teacher = is_teacher
        self.first = nn.Sequential(nn.Linear(COLUMNS, WIDTH), nn.Tanh())
        self.second = (
            mlp() if is_teacher else nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES))
        )

    def forward(self, x):
        x = 1.0 * x
        with torch.no_grad():
            h = self.first(x)
        return self.second(x if self.is_teacher else h.tanh())


@pytest.mark.slow
@ill(DISCONNECTED)
def test_a_layer_under_no_grad_that_an_optimizer_is_to_change():
    model = Blind()
    return trained(model, classes(), F.cross_entropy, sgd(model)).end, "no gradient comes to first.0"


@ill(DISCONNECTED)
def test_a_layer_under_no_grad_that_keeps_the_shape():
    model = nn.ModuleList([nn.Linear(COLUMNS, COLUMNS), mlp()])

    def forward(x):
        with torch.no_grad():
            h = model[0](x)
        return model[1](h)

    model.forward = forward
    return trained(model, classes(), F.cross_entropy, sgd(model)).end, "no gradient comes to 0"


@near(DISCONNECTED)
def test_a_layer_under_no_grad_that_no_optimizer_has():
    model = Blind()
    return trained(model, classes(), F.cross_entropy, adam(model.second, 0.03), 80).end


@near(DISCONNECTED)
def test_a_target_network_that_is_shown_another_view():
    class Views(Blind):
        def forward(self, x):
            with torch.no_grad():
                self.first(x + 0.1)
            return self.second(x - 0.1)

    model = Views(is_teacher=True)
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80).end


@near(DISCONNECTED)
def test_a_teacher_beside_the_network():
    model = Blind(is_teacher=True)
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80).end


@near(DISCONNECTED)
def test_a_head_that_is_not_trained_yet():
    model = Parts(lambda m, h: (m.later(h), h)[1], later=nn.Linear(WIDTH, 2))
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80).end


@ill(NOT_OPTIMIZED)
def test_an_optimizer_of_the_last_layer_alone():
    model = Parts(lambda m, h: h)
    run = trained(model, classes(), F.cross_entropy, sgd(model.b))
    return run.end, "2 parameters in no optimizer: a.weight, a.bias"


@near(NOT_OPTIMIZED)
def test_a_part_that_is_frozen():
    model = Parts(lambda m, h: h)
    model.a.requires_grad_(False)
    return trained(model, classes(), F.cross_entropy, adam(model.b, 0.05), 100).end


@near(NOT_OPTIMIZED)
def test_a_target_network_that_no_gradient_comes_to():
    model = Parts(lambda m, h: h, target=nn.Linear(COLUMNS, CLASSES))
    x, y = classes()
    steered = [*model.a.parameters(), *model.b.parameters()]

    def loss(z, y):
        with torch.no_grad():
            model.target(x)
        return F.cross_entropy(z, y)

    return trained(model, (x, y), loss, torch.optim.Adam(steered, 0.03), 80).end
