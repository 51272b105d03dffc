"""Units that pass no gradient on."""

from statistics import fmean

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import COLUMNS, adam, classes, ill, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients.judge.rules import DEAD, SATURATED, SILENT
from unvanish.gradients.judge.rules.units import MANY, NEARLY_ALL


def worst(shares, what):
    """The sentence on three layers at most."""
    named = ", ".join(f"{shares[name]:.0%} in {name}" for name in sorted(shares, key=lambda name: -shares[name])[:3])
    over = f", on average over {len(shares)} layers" if len(shares) > 1 else ""
    return f"{fmean(shares.values()):.0%} {what}{over}: {named}"


def hidden(run, what):
    """The share of each hidden layer's units, the least of the last steps."""
    return {
        name: min(step[name] for step in run.seen[what][-run.report.window :])
        for name in run.medians(what)
        if name != str(len(run.model) - 1)
    }


@ill(DEAD)
@pytest.mark.parametrize("layers", [1, 3])
def test_biases_that_keep_every_relu_of_the_first_layer_shut(layers):
    model = mlp(hidden=layers)
    with torch.no_grad():
        model[0].bias[:-1] -= 100
    run = trained(model, noise(), F.cross_entropy, sgd(model, 0.01))
    shares = hidden(run, "dead")
    assert shares["0"] >= NEARLY_ALL
    return run.end, worst(shares, "of the units are never positive")


@ill(DEAD)
def test_units_that_the_first_steps_have_killed():
    model = mlp(hidden=2)
    run = trained(model, noise(), F.cross_entropy, adam(model, 1.5), 40)
    shares = hidden(run, "dead")
    assert max(run.first("dead").values()) < NEARLY_ALL <= max(shares.values())
    return run.end, worst(shares, "of the units are never positive") + ", and training has made it so"


@pytest.mark.slow
@ill(DEAD)
def test_no_more_units_than_inputs_are_left():
    torch.manual_seed(0)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    y = (2 * x).floor().long().sum(1) % 2  # a chess board
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[2].bias[:4] -= 100
    run = trained(model, (x, y), F.cross_entropy, adam(model, 0.01), 150)
    shares = hidden(run, "dead")
    assert shares["2"] == pytest.approx(4 / 6)  # two are left, and two inputs there are
    return run.end, worst(shares, "of the units are never positive") + ", and training has made it so"


@pytest.mark.slow
@near(DEAD)
def test_more_units_than_inputs_are_left():
    torch.manual_seed(0)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    y = (x.norm(dim=1) > 1.1).long()
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2))
    with torch.no_grad():
        model[2].bias[:8] -= 100
    run = trained(model, (x, y), F.cross_entropy, adam(model, 0.01), 150)
    assert hidden(run, "dead")["2"] >= MANY
    return run.end


@pytest.mark.slow
@near(DEAD)
def test_positive_inputs_with_one_column():
    x = torch.rand(64, 1, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    nn.init.zeros_(model[0].bias)
    run = trained(model, (x, x.square()), F.mse_loss, adam(model, 0.01), 100)
    assert 0.25 < run.first("dead")["0"] < NEARLY_ALL
    return run.end


@ill(SILENT)
def test_a_layer_whose_activation_is_flat():
    model = mlp(hidden=3, activation=nn.Hardtanh)
    with torch.no_grad():
        model[2].bias += 100
    run = trained(model, noise(), F.cross_entropy, sgd(model, 0.01))
    silent = [name for name, delta in run.medians("delta").items() if delta == 0]
    assert silent == ["0", "2"]
    return run.end, "|delta| is exactly 0 in 2 of 4 layers, the deepest of them 2"


@pytest.mark.slow
@near(SILENT)
def test_a_weight_that_begins_at_0_by_design():
    model = mlp(hidden=3)
    nn.init.zeros_(model[6].weight)
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.02), 80)
    assert run.seen["delta"][0]["4"] == 0
    return run.end


class Heads(nn.Module):
    """A head for each sort of sample, as a detector has one for each size."""

    def __init__(self):
        super().__init__()
        self.stem, self.heads = mlp(COLUMNS), nn.ModuleList(mlp(hidden=2) for _ in "ab")

    def forward(self, x):
        x = self.stem(x).relu()
        return torch.stack([head(x) for head in self.heads])


@near(SILENT)
def test_a_head_that_the_first_batches_have_left_out():
    torch.manual_seed(0)
    model = Heads()
    run = trained(model, noise(), lambda z, y: F.cross_entropy(z[0] + 0 * z[1], y), sgd(model, 0.01), 4)
    assert run.first("delta")["heads.1.4"] == 0
    return run.end


@ill(SATURATED)
def test_tanh_units_with_large_biases():
    model = mlp(hidden=2, activation=nn.Tanh)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.bias += 10
    run = trained(model, noise(), F.cross_entropy, sgd(model, 0.01))
    shares = run.medians("at tanh's bound")
    shares = {name: shares[name] for name in ("0", "2")}
    assert min(shares.values()) >= MANY
    return run.end, worst(shares, "of the activations are saturated")


@ill(SATURATED)
def test_tanh_units_that_the_first_steps_have_driven_to_their_bounds():
    model = mlp(hidden=2, activation=nn.Tanh)
    run = trained(model, noise(), F.cross_entropy, adam(model, 2.0), 60)
    shares = run.medians("at tanh's bound")
    shares = {name: shares[name] for name in ("0", "2")}
    assert "a lower learning rate" in str(run.end)
    return run.end, worst(shares, "of the activations are saturated") + ", and training has made it so"


@pytest.mark.slow
@near(SATURATED)
def test_a_sigmoid_on_the_output_that_is_right_and_sure():
    x, number = numbers()
    y = (number > 0).float()
    model = mlp(1, activation=nn.Tanh, end=nn.Sigmoid())
    run = trained(model, (x, y), F.binary_cross_entropy, adam(model, 0.1), 120)
    p = model(x)
    assert ((p < 0.01) | (p > 0.99)).float().mean() > MANY
    return run.end
