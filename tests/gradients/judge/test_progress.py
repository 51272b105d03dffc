"""What has come of a run."""

import math
from itertools import pairwise
from statistics import fmean, pstdev

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, ROWS, adam, classes, ill, inputs, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients.judge.rules import PENALTY, PLATEAU, SLOW, STUCK
from unvanish.gradients.judge.rules.progress import MUCH, PATIENCE
from unvanish.gradients.judge.seen import LEARNS
from unvanish.gradients.judge.seen import STUCK as STUCK_AT


def entropy(y):
    """What the best constant prediction costs, in nats."""
    rates = torch.bincount(y).double() / len(y)
    return -(rates * rates.log()).sum().item()


def new_noise(step):
    """Other inputs and labels at every step, which have nothing to do with one another."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(ROWS, 5, generator=generator), torch.randint(CLASSES, (ROWS,), generator=generator)


@ill(STUCK)
def test_labels_that_have_nothing_to_do_with_the_inputs():
    model, steps = mlp(), PATIENCE + 20
    run = trained(model, new_noise, F.cross_entropy, sgd(model, 0.05), steps)
    constant = entropy(torch.cat([new_noise(step)[1] for step in range(steps)]))
    assert run.loss() > (1 - STUCK_AT) * constant
    return (
        run.end,
        f"after {steps} steps the loss is {run.loss():.3g}, and the best constant prediction has {constant:.3g}",
    )


@pytest.mark.slow
@ill(STUCK)
def test_numbers_that_have_nothing_to_do_with_the_inputs():
    def data(step):
        generator = torch.Generator().manual_seed(step)
        return torch.randn(ROWS, 5, generator=generator), 3 + torch.randn(ROWS, 1, generator=generator)

    model, steps = mlp(1), PATIENCE + 100
    run = trained(model, data, F.mse_loss, adam(model, 0.02), steps)
    constant = torch.cat([data(step)[1] for step in range(steps)]).double().var(correction=0).item()
    assert run.loss() > (1 - STUCK_AT) * constant
    return (
        run.end,
        f"after {steps} steps the loss is {run.loss(steps // 2):.3g}, and the best constant prediction has "
        f"{constant:.3g}",
    )


@pytest.mark.slow
@ill(STUCK)
def test_a_network_of_which_the_last_bias_alone_is_trained():
    model = mlp()
    for parameter in (*model[0].parameters(), model[2].weight):
        parameter.requires_grad_(False)
    run = trained(model, noise(), F.cross_entropy, adam(model), 120)
    (finding,) = (finding for finding in run.end.findings if finding.name == STUCK.name)
    assert finding.evidence.endswith("; 2 weights frozen: 0, 2")
    return run.end, finding.evidence


@near(STUCK)
def test_a_loss_that_falls_slowly_and_without_noise():
    x, y = classes()
    model = mlp()
    run = trained(model, (x, y), F.cross_entropy, sgd(model, 0.0012), 6 * PATIENCE)
    assert run.losses[-1] > (1 - STUCK_AT) * entropy(y)
    assert fmean(run.losses[-64:]) < fmean(run.losses[-128:-64])
    return run.end


@pytest.mark.slow
@ill(STUCK)
@pytest.mark.parametrize("widths", [(5, 11, 11, 1), (5, 1)])
@pytest.mark.parametrize("end", [nn.Identity, nn.Sigmoid])
def test_layers_without_an_activation_between_them(widths, end):
    x = inputs()
    y = (x[:, :1] * x[:, 1:2] > 0).float()
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)), end())
    steps = PATIENCE + 20
    loss = F.binary_cross_entropy if end is nn.Sigmoid else F.binary_cross_entropy_with_logits
    run = trained(model, (x, y), loss, sgd(model, 0.001), steps)
    constant = entropy(y.flatten().long())
    told = (
        f"after {steps} steps the loss is {run.loss(steps // 2):.3g}, and the best constant prediction has "
        f"{constant:.3g}"
    )
    assert "an activation, such as ReLU, after each hidden layer" in str(run.end)
    return run.end, f"{told}; no activation is between its layers"


@pytest.mark.slow
@near(STUCK)
def test_one_unit_that_answers_at_every_position():
    """Each position has a constant of its own, which a unit that is the same at all of them cannot give."""
    rates = torch.linspace(0.05, 0.95, 12)

    def data(step):
        y = (torch.rand(64, 12, generator=torch.Generator().manual_seed(step)) < rates).float()
        return torch.cat([torch.zeros(64, 1), y[:, :-1]], 1).unsqueeze(-1), y

    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, x):
            return self.inner(x).squeeze(-1)

    model = Positions()
    run = trained(model, data, F.binary_cross_entropy_with_logits, adam(model, 0.03), 150)
    own = fmean(-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in rates.tolist())
    assert own < run.loss(75) < (1 - STUCK_AT) * math.log(2)
    return run.end


@pytest.mark.slow
@near(STUCK)
def test_two_targets_that_were_mixed():
    x, y = classes()
    model = mlp()
    share = [0.9]
    other = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))

    def data(step):
        share[0] = 0.8 + 0.2 * math.sin(step) ** 2
        return share[0] * x + (1 - share[0]) * x[other], y

    def loss(z, y):
        return share[0] * F.cross_entropy(z, y) + (1 - share[0]) * F.cross_entropy(z, y[other])

    run = trained(model, data, loss, adam(model, 0.05), 150)
    assert run.loss(75) < (1 - LEARNS) * entropy(y)
    return run.end


@near(STUCK)
def test_xor_before_it_has_left_its_plateau():
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([[0.0], [1], [1], [0]])
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    run = trained(model, (x, y), F.binary_cross_entropy_with_logits, sgd(model, 0.1), PATIENCE - 10)
    assert run.losses[-1] > 0.9 * math.log(2)
    return run.end


@pytest.mark.slow
@near(STUCK)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_classes_whose_constant_answer_costs_another_loss(reduction):
    model, weight = mlp(), torch.tensor([1.0, 2.0, 10.0])
    run = trained(
        model, classes(), lambda z, y: F.cross_entropy(z, y, weight, reduction=reduction), adam(model, 0.03), 150
    )
    assert run.losses[-1] < 0.1 * run.losses[0]
    return run.end


@pytest.mark.slow
@near(STUCK)
@pytest.mark.parametrize("of", ["weight", "pos_weight"])
def test_a_weighted_binary_cross_entropy(of):
    x, number = numbers()
    model = mlp(1)

    def loss(z, y):
        return F.binary_cross_entropy_with_logits(z, y, **{of: torch.tensor([10.0])})

    return trained(model, (x, (number > 0).float()), loss, sgd(model, 0.01), 200).end


@pytest.mark.slow
@ill(PLATEAU)
def test_one_unit_where_more_are_needed():
    x = inputs()
    model = mlp(1, width=1)
    run = trained(model, (x, x.square().sum(1, keepdim=True)), F.mse_loss, adam(model, 0.3), 300)
    last = run.losses[-128:]
    assert pstdev(last) < 1e-3 * fmean(last)
    return run.end, f"the loss has been {fmean(last):.3g} for {len(last)} steps, to three digits"


@pytest.mark.slow
@near(PLATEAU)
def test_batches_that_differ():
    def data(step):
        x = torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(step))
        return x, x.square().sum(1, keepdim=True)

    model = mlp(1, width=1)
    return trained(model, data, F.mse_loss, adam(model, 0.3), 300).end


@pytest.mark.slow
@ill(SLOW)
def test_a_run_that_ends_while_it_learns():
    x, y = numbers()
    model = mlp(1)
    run = trained(model, (x, y), F.mse_loss, sgd(model, 0.0022), 200)
    before, after = fmean(run.losses[-128:-64]), fmean(run.losses[-64:])
    assert after < 0.9 * before
    assert run.loss() > (1 - LEARNS) * y.var()
    return run.end, f"the loss has fallen from {before:.3g} to {after:.3g} over the last 128 steps"


@ill(SLOW)
def test_a_few_steps_in_which_it_has_only_begun_to_learn():
    x, y = numbers()
    model = mlp(1)
    run = trained(model, (x, y), F.mse_loss, sgd(model, 0.03), 20)
    before, after = fmean(run.losses[:10]), fmean(run.losses[10:])
    assert after < (1 - LEARNS) * y.var(correction=0)  # it learns
    again = after * (1 - (after / before) ** 2)
    assert again > MUCH * y.var(correction=0)
    return run.end, f"the loss has fallen from {before:.3g} to {after:.3g} over the last 20 steps, and is still falling"


@pytest.mark.slow
@near(SLOW)
def test_a_run_whose_loss_is_well_below_a_constant_s():
    x, y = numbers()
    model = mlp(1)
    run = trained(model, (x, y), F.mse_loss, sgd(model, 0.02), 200)
    assert fmean(run.losses[-64:]) < 0.9 * fmean(run.losses[-128:-64])
    return run.end


def test_a_factor_of_the_loss_is_no_penalty():
    model = mlp()
    run = trained(model, classes(), lambda z, y: 10 * F.cross_entropy(z, y), sgd(model, 0.0003), 60)
    assert PENALTY.name not in [finding.name for finding in run.end.findings]
