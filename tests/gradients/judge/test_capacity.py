"""Layers that are too narrow, and too many of them in line."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import adam, ill, inputs, near, sgd, trained

from unvanish.gradients.judge.rules import BOTTLENECK, TOO_DEEP
from unvanish.gradients.judge.rules.capacity import DEEP, correlation
from unvanish.gradients.judge.rules.units import POOR


def eight():
    """Which of the octants of three columns it is."""
    x = inputs(256)
    return x, ((x[:, :3] > 0) * torch.tensor([1, 2, 4])).sum(1)


def through(units):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, units), nn.ReLU(), nn.Linear(units, 16), nn.ReLU(), nn.Linear(16, 8))


@pytest.mark.slow
@ill(BOTTLENECK)
@pytest.mark.parametrize("units", [1, 2])
def test_fewer_units_than_what_tells_the_classes_apart(units):
    model = through(units)
    run = trained(model, eight(), F.cross_entropy, adam(model, 0.003), 120)
    assert run.loss(60) > POOR * math.log(8)
    name = f"{units} unit{'s' * (units > 1)}"
    return run.end, f"all that tells 8 classes apart has to pass through 0, which has {name}"


@pytest.mark.slow
@near(BOTTLENECK)
def test_two_units_through_which_it_learns():
    x, y = eight()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 2), nn.Tanh(), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8))
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0) + 4  # four of eight classes occur
    return trained(model, (x, y), F.cross_entropy, adam(model, 0.03), 200).end


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return x + self.layer(x).relu() / 6


def signs():
    x = inputs()
    return x, (x[:, 0] > x[:, 1]).long()


@pytest.mark.slow
@ill(TOO_DEEP)
def test_forty_plain_layers():
    torch.manual_seed(0)
    hidden = [part for _ in range(40) for part in (nn.Linear(11, 11), nn.ReLU())]
    model = nn.Sequential(nn.Linear(5, 11), *hidden, nn.Linear(11, 2))
    for layer in model[1:-1:2]:
        nn.init.orthogonal_(layer.weight, 2**0.5)
    run = trained(model, signs(), F.cross_entropy, sgd(model, 1e-4), 110)
    alike = f"{correlation(40):.1%} alike at initialization"
    return run.end, f"40 ReLU layers in a row make two unrelated inputs {alike}"


@pytest.mark.slow
@near(TOO_DEEP)
def test_forty_layers_with_residual_connections():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 11), *(Residual(11) for _ in range(40)), nn.Linear(11, 2))
    return trained(model, signs(), F.cross_entropy, adam(model, 0.003), 110).end


def test_how_alike_layers_make_two_inputs():
    """As in a wide network that is drawn."""
    generator = torch.Generator().manual_seed(1)
    x = torch.eye(2, 1024)
    for _ in range(DEEP):
        x = (x @ torch.randn(1024, 1024, generator=generator) * (2 / 1024) ** 0.5).relu()
    assert F.cosine_similarity(x[0], x[1], dim=0).item() == pytest.approx(correlation(DEEP), abs=0.015)
    assert correlation(DEEP) > 0.97
