"""A loss of which one part says more than the other: penalties, and what is compared beside them."""

from statistics import fmean, median

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import COLUMNS, adam, classes, ill, inputs, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients.judge.rules import PENALTY
from unvanish.gradients.judge.rules.progress import SHRINKS, SHRUNK


class Variational(nn.Module):
    """Each sample as two numbers with their noise, and how far these are from the prior."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = mlp(4), nn.Linear(2, COLUMNS)

    def forward(self, x):
        mean, log = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (log / 2).exp()
        return self.decoder(z), (mean.square() + log.exp() - log - 1).sum(1).mean() / 2


@ill(PENALTY)
def test_a_divergence_beside_which_nothing_is_reconstructed():
    x, model = inputs(), Variational()
    run = trained(model, (x, x), lambda f, x: F.mse_loss(f[0], x) + 9 * f[1], adam(model), 200)
    (finding,) = (finding for finding in run.end.findings if finding.name == PENALTY.name)
    constant = x.var(0, correction=0).mean().item()
    assert f", where {constant:.3g} is what the best constant prediction has, and the loss" in finding.evidence
    return run.end, finding.evidence


@near(PENALTY)
def test_a_divergence_that_leaves_room():
    x, model = inputs(), Variational()
    return trained(model, (x, x), lambda f, x: F.mse_loss(f[0], x) + 0.01 * f[1], adam(model, 0.03), 300).end


@ill(PENALTY)
def test_a_penalty_of_more_than_the_loss():
    x, y = classes()
    model = mlp()
    parts = []

    def loss(z, y):
        taught = F.cross_entropy(z, y)
        penalty = sum(p.abs().sum() for p in model.parameters())
        parts.append((penalty / (taught + penalty)).item())
        return taught + penalty

    run = trained(model, (x, y), loss, sgd(model, 0.001), 30)
    share = fmean(parts[-10:])
    assert 0.5 < share < 1
    return run.end, f"penalties make {share:.0%} of the loss"


@ill(PENALTY)
def test_a_penalty_that_is_nearly_all_of_the_loss_and_shrinks_the_weights():
    x, y = numbers()
    model = mlp(1)
    parts = []

    def loss(z, y):
        taught = F.mse_loss(z, y)
        penalty = 20 * sum(p.square().sum() for p in model.parameters() if p.dim() > 1)
        parts.append((penalty / (taught + penalty)).item())
        return taught + penalty

    run = trained(model, (x, y), loss, sgd(model, 0.0003), 30)
    now = run.medians("weight")
    left = median(now[name] / run.seen["weight"][0][name] for name in now)
    assert SHRUNK < left < SHRINKS
    told = f"the weights have shrunk to {left:.0%} of what they began with"
    return run.end, f"{told}, and penalties make {fmean(parts[-10:]):.0%} of the loss"


@ill(PENALTY)
def test_a_decoupled_weight_decay_that_makes_most_of_each_step():
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 0.001, weight_decay=30.0)
    run = trained(model, noise(), F.cross_entropy, optimizer, 14)
    return run.end, "a weight decay of 30 makes most of each step, in 2 of 2 layers"


@near(PENALTY)
def test_a_decoupled_weight_decay_that_is_larger_than_the_gradients():
    x, y = classes()
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
    run = trained(model, (x, y), lambda z, y: 0.01 * F.cross_entropy(z, y), optimizer, 60)
    weights, gradients = run.medians("weight"), run.medians("gradient")
    assert all(0.1 * norm > gradients[name] for name, norm in weights.items())
    return run.end


@ill(PENALTY)
def test_a_weight_decay_that_shrinks_the_weights():
    model = mlp()
    run = trained(model, noise(), F.cross_entropy, sgd(model, 0.05, weight_decay=1.0), 60)
    now = run.medians("weight")
    left = median(norm / run.seen["weight"][0][name] for name, norm in now.items())
    return run.end, f"the weights have shrunk to {left:.0%} of what they began with"


@ill(PENALTY)
def test_a_weight_decay_that_pulls_harder_than_the_loss():
    model = mlp()
    decay = 0.5
    run = trained(model, noise(), F.cross_entropy, sgd(model, 0.001, weight_decay=decay), 30)
    weights, gradients = run.medians("weight"), run.medians("gradient")
    assert all(decay * norm > gradients[name] for name, norm in weights.items())
    return run.end, "a weight decay of 0.5 pulls at the weights harder than the loss does, in 2 of 2 layers"


@pytest.mark.slow
@ill(PENALTY)
def test_a_penalty_that_has_taken_the_weights_at_once():
    torch.manual_seed(0)
    x, y = noise()
    model = mlp()
    loss = lambda z, y: F.cross_entropy(z, y) + sum(p.square().sum() for p in model.parameters())  # noqa: E731
    run = trained(model, (x, y), loss, sgd(model, 0.1), 200)
    before, now = run.first("weight"), run.medians("weight")
    left = median(now[name] / run.seen["weight"][0][name] for name in before)
    return run.end, f"the weights have shrunk to {left:.0%} of what they began with"


@pytest.mark.slow
@near(PENALTY)
def test_the_end_of_a_run_that_fits_its_data():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model, 0.5, weight_decay=0.003), 200)
    return run.end


@near(PENALTY)
def test_two_comparisons_of_which_one_comes_after_the_other():
    def both(p, y):
        return F.binary_cross_entropy(p, y) + 1 - 2 * (p * y).sum() / (p + y).sum()

    torch.manual_seed(0)
    x = inputs()
    y = (x[:, :1] + x[:, 1:2] > 1.8).float()
    model = nn.Sequential(*mlp(1), nn.Sigmoid())
    run = trained(model, (x, y), both, adam(model, 1e-3), 150)
    constant = F.binary_cross_entropy(y.mean().expand_as(y), y).item()
    assert F.binary_cross_entropy(model(x), y).item() > 0.9 * constant
    return run.end
