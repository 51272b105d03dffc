"""Weights as they begin."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, WIDTH, adam, classes, ill, inputs, mlp, near, sgd, trained

from unvanish.gradients.judge.rules import LARGE_START, TWINS
from unvanish.gradients.judge.rules.initialization import LARGE, SURE


@ill(TWINS)
@pytest.mark.parametrize(("value", "how"), [(0.0, "begin at 0"), (0.5, "begin with the same weights")])
def test_constant_weights(value, how):
    model = mlp(activation=nn.Tanh)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    run = trained(model, classes(), F.cross_entropy, sgd(model))
    assert torch.equal(model[0].weight, model[0].weight[:1].expand_as(model[0].weight))
    return run.end, f"all units of 0 {how}, and what follows treats them alike"


class Adapted(nn.Module):
    """A frozen layer beside a low-rank one that begins at 0."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(COLUMNS, WIDTH).requires_grad_(False)
        self.a, self.b = nn.Linear(COLUMNS, 2, bias=False), nn.Linear(2, WIDTH, bias=False)
        nn.init.zeros_(self.b.weight)
        self.leave = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.leave((self.base(x) + self.b(self.a(x))).tanh())


@pytest.mark.slow
@near(TWINS)
def test_an_adapter_that_begins_at_0():
    model = Adapted()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.03)
    return trained(model, classes(), F.cross_entropy, optimizer, 100).end


@near(TWINS)
def test_a_bottleneck_of_one_unit():
    x = inputs()
    model = nn.Sequential(nn.Linear(COLUMNS, 1), nn.Linear(1, COLUMNS), nn.Linear(COLUMNS, 1))
    run = trained(model, (x, x[:, :1]), F.mse_loss, adam(model, 0.03), 100)
    assert run.losses[-1] < 0.1
    return run.end


class Flow(nn.Module):
    """Couplings of two numbers, each of which begins as the identity."""

    def __init__(self):
        super().__init__()
        self.couplings = nn.ModuleList(
            nn.Sequential(nn.Linear(1, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2)) for _ in range(4)
        )
        for coupling in self.couplings:
            nn.init.zeros_(coupling[2].weight)
            nn.init.zeros_(coupling[2].bias)

    def forward(self, x):
        kept, other, volume = x[:, :1], x[:, 1:], 0.0
        for coupling in self.couplings:
            scale, shift = coupling(kept).tanh().chunk(2, 1)
            kept, other, volume = other * scale.exp() + shift, kept, volume + scale
        return 0.5 * (kept**2 + other**2) - volume


@pytest.mark.slow
@near(TWINS)
def test_couplings_of_a_flow_that_begin_at_0():
    angles = torch.rand(64, 1, generator=torch.Generator().manual_seed(1)) * 3
    x = torch.cat([angles.cos(), angles.sin()], 1)
    model = Flow()
    run = trained(model, (x, x), lambda z, _: z.mean(), adam(model, 0.01), 60)
    assert run.seen["delta"][0]["couplings.0.2"] > 0
    assert run.losses[-1] < run.losses[0] - 0.3
    return run.end


@near(TWINS)
def test_an_output_that_begins_at_0():
    model = mlp()
    nn.init.zeros_(model[2].weight)
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80).end


@ill(LARGE_START)
def test_weights_of_many_times_he_s_size():
    x, y = classes()
    gain = 4 * LARGE
    model = mlp(gain=gain)
    begin = F.cross_entropy(model(x), y).item()
    sizes = [layer.weight.norm().item() / layer.out_features**0.5 / math.sqrt(2) for layer in (model[0], model[2])]
    assert max(sizes) == pytest.approx(gain / math.sqrt(2), rel=0.3)
    assert begin > SURE * math.log(CLASSES)
    run = trained(model, (x, y), F.cross_entropy, sgd(model, 1e-6), 20)
    return run.end, (
        f"the weights of 0, 2 begin {max(sizes):.2g} times as large as He's, and the loss starts at {begin:.3g}, "
        f"where ln {CLASSES} is {math.log(CLASSES):.3g}"
    )


@ill(LARGE_START)
def test_layers_that_are_too_large_together():
    x, y = classes()
    torch.manual_seed(0)
    model = mlp(hidden=3, width=32)
    for parameter in model.parameters():
        nn.init.uniform_(parameter)
    begin = F.cross_entropy(model(x), y).item()
    layers = model[::2]
    sizes = [layer.weight.double().norm().item() / layer.out_features**0.5 / math.sqrt(2) for layer in layers]
    assert max(sizes) < LARGE / math.sqrt(2)
    run = trained(model, (x, y), F.cross_entropy, sgd(model, 1e-6), 20)
    large = ", ".join(str(2 * i) for i, size in enumerate(sizes) if size > 1)
    return run.end, (
        f"the weights of {large} begin {math.prod(s for s in sizes if s > 1):.2g} times as large as He's, all "
        f"together, and the loss starts at {begin:.3g}, where ln {CLASSES} is {math.log(CLASSES):.3g}"
    )


@ill(LARGE_START)
def test_branches_that_add_up():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.enter, self.leave = nn.Linear(COLUMNS, WIDTH), nn.Linear(WIDTH, CLASSES)
            self.branches = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(9))
            for branch in self.branches:
                nn.init.kaiming_normal_(branch[0].weight)

        def forward(self, x):
            h = self.enter(x)
            for branch in self.branches:
                h = h + branch(h)
            return self.leave(h)

    x, y = classes()
    model = Sum()
    begin = F.cross_entropy(model(x), y).item()
    run = trained(model, (x, y), F.cross_entropy, sgd(model, 1e-6), 20)
    log = f"ln {CLASSES} is {math.log(CLASSES):.3g}"
    return run.end, f"each branch adds to its input, and the loss starts at {begin:.3g}, where {log}"


@near(LARGE_START)
def test_an_embedding_of_variance_1():
    words = torch.arange(13).repeat(5)
    model = nn.Sequential(nn.Embedding(13, 7), nn.Linear(7, CLASSES))
    assert model[0].weight.norm() / 7**0.5 > 2
    return trained(model, (words, words % CLASSES), F.cross_entropy, adam(model, 0.05), 80).end
