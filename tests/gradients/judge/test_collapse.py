"""Representations that become the same for all samples."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F
from trained import COLUMNS, WIDTH, adam, ill, inputs, mlp, near, trained

from unvanish.gradients.judge.rules import COLLAPSE


class Siamese(nn.Module):
    """Two views of each sample, and what is predicted of one by the other."""

    def __init__(self, *, stops):
        super().__init__()
        torch.manual_seed(0)
        self.stops = stops
        self.encoder = nn.Sequential(nn.Linear(COLUMNS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.target = deepcopy(self.encoder).requires_grad_(False)

    def forward(self, x):
        a, b = (x + 0.3 * torch.randn_like(x) for _ in range(2))
        return self.encoder(a), self.target(b) if self.stops else self.encoder(b)


def distance(outputs, _):
    return (outputs[0] - outputs[1]).square().sum(1).mean()


def test_the_spread_is_that_of_the_samples():
    x = inputs()
    model = mlp(2)
    z = model(x).detach()
    (record,) = trained(model, (x, x[:, :2]), F.mse_loss, adam(model), 1).report.first
    deviation = (z - z.mean(0)).square().sum().sqrt() / z.square().sum().sqrt()
    torch.testing.assert_close(record.values["spread"], {"2": deviation.item()}, rtol=1e-5, atol=0)
    assert record.repeated == ()


@ill(COLLAPSE)
def test_two_views_that_are_drawn_together():
    model = Siamese(stops=False)
    run = trained(model, (inputs(), inputs()), distance, adam(model, 0.03), 150)
    z = model.encoder(inputs())
    assert (z - z.mean(0)).norm() < 0.2 * z.norm()
    (finding,) = (finding for finding in run.end.findings if finding.name == COLLAPSE.name)
    return run.end, finding.evidence


@near(COLLAPSE)
def test_a_target_that_is_none_of_its_own_making():
    model = Siamese(stops=True)
    return trained(model, (inputs(), inputs()), distance, adam(model.encoder, 0.03), 150).end


@near(COLLAPSE)
def test_answers_that_are_far_from_zero():
    x = inputs()
    model = mlp(2)
    y = 10 + x[:, :2]
    return trained(model, (x, y), lambda z, y: (z - y).cosh().log().mean(), adam(model, 0.03), 300).end


def test_a_layer_that_two_views_go_through_is_repeated_and_that_of_a_recurrence_is_not():
    siamese = Siamese(stops=False)
    (record,) = trained(siamese, (inputs(), inputs()), distance, adam(siamese), 1).report.first
    assert record.repeated == ("encoder.0", "encoder.2")

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = nn.Linear(COLUMNS, COLUMNS)

        def forward(self, x):
            return self.turn(self.turn(self.turn(x).tanh()).tanh())

    steps = Steps()
    (record,) = trained(steps, (inputs(), inputs()), F.mse_loss, adam(steps), 1).report.first
    assert record.repeated == ()
