"""Options of optimizers, batch normalization, noise and ranks."""

import math
from dataclasses import replace
from functools import partial
from statistics import fmean, stdev

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, ROWS, WIDTH, adam, classes, ill, mlp, near, numbers, sgd, trained

from unvanish.gradients.judge.rules import (
    APART_IN_EVAL,
    DROPPED,
    EPS,
    FEW_SAMPLES,
    MOMENTUM,
    NOISE,
    RANKS_APART,
    SUMMED,
)
from unvanish.gradients.judge.rules.noise import TIMES
from unvanish.gradients.judge.seen import USUAL
from unvanish.gradients.quantities.drift import DRIFT


@ill(MOMENTUM)
def test_a_momentum_above_one():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model, 0.01, momentum=1.1), 30)
    return run.end, "a momentum of 1.1 never forgets a step, so their sum grows without bound"


@ill(MOMENTUM)
def test_betas_that_were_swapped():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.001, betas=(0.999, 0.9)), 30)
    return run.end, "betas of 0.999 and 0.9 average the gradient over more steps than its square"


@near(MOMENTUM)
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999), (0.0, 0.99), (0.9, 0.95)], ids=str)
def test_betas_as_they_are_in_use(betas):
    model = mlp()
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03, betas=betas), 60).end


@ill(EPS)
def test_an_eps_above_all_gradients():
    model = mlp(1)
    x, y = numbers()
    run = trained(model, (x, 1e-4 * y), lambda z, t: 1e-4 * F.mse_loss(z, t), adam(model, 1e-3, eps=0.1), 60)
    assert max(run.medians("moved").values()) < USUAL / 10
    largest = max(adam_rms for name, adam_rms in run.report.last[-1].values["adam_rms"].items())
    found = run.report.end
    evidence = next(f.evidence for f in found.findings if f.name == EPS.name)
    assert evidence.startswith("an eps of 0.1 is larger than sqrt(v_hat) in 2 of 2 layers, ")
    assert float(evidence.split(", ")[1].split()[0]) == pytest.approx(largest, rel=0.6)
    return found, evidence


@pytest.mark.slow
@near(EPS)
def test_the_usual_eps_and_a_small_loss():
    model = mlp(1)
    return trained(model, numbers(), lambda z, t: 1e-4 * F.mse_loss(z, t), adam(model, 0.03), 200).end


@pytest.mark.slow
@ill(SUMMED)
@pytest.mark.parametrize("rate", [0.2, 1.0], ids=["stuck", "diverged"])
def test_a_sum_with_a_mean_s_learning_rate(rate):
    torch.manual_seed(0)
    model = mlp()
    run = trained(model, classes(), lambda z, y: F.cross_entropy(z, y, reduction="sum"), sgd(model, rate), 120)
    assert math.isfinite(run.losses[-1]) == (rate < 1)
    return run.end, f"the loss is a sum over {ROWS} rows, and its gradient that many times as large as a mean's"


@near(SUMMED)
def test_a_sum_with_a_learning_rate_that_suits_it():
    model = mlp()
    loss = partial(F.cross_entropy, reduction="sum")
    return trained(model, classes(), loss, adam(model, 0.03), 100).end


def dropping(share: float) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(COLUMNS, 64), nn.ReLU(), nn.Dropout(share), nn.Linear(64, CLASSES))


@pytest.mark.slow
@ill(DROPPED)
def test_a_dropout_of_nearly_all_units():
    model = dropping(0.98)
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.003), 120)
    return run.end, "dropout sets 98% of a layer's units to 0 at each step"


@pytest.mark.slow
@near(DROPPED)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_dropout_that_lets_it_learn(share):
    model = dropping(share)
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 150).end


def normalized(width: int = WIDTH, momentum: float = 0.1) -> nn.Module:
    return nn.Sequential(
        nn.Linear(COLUMNS, width), nn.BatchNorm1d(width, momentum=momentum), nn.ReLU(), nn.Linear(width, CLASSES)
    )


def few(rows: int):
    x, y = classes()

    def data(step):
        at = rows * step % (ROWS - rows)
        return x[at : at + rows], y[at : at + rows]

    return data


@ill(FEW_SAMPLES)
def test_batches_of_two():
    torch.manual_seed(0)
    model = normalized()
    run = trained(model, few(2), F.cross_entropy, sgd(model, 0.01), 40)
    return run.end, "each batch has 2 samples, and is normalized by their mean and variance alone"


@pytest.mark.slow
@near(FEW_SAMPLES)
def test_batches_of_eight():
    torch.manual_seed(0)
    model = normalized()
    return trained(model, few(8), F.cross_entropy, adam(model, 0.03), 200).end


@pytest.mark.slow
@ill(APART_IN_EVAL)
def test_running_averages_that_never_follow():
    torch.manual_seed(0)
    x, y = classes()
    model = normalized(momentum=1e-6)
    run = trained(model, (100 + 40 * x, y), F.cross_entropy, adam(model, 0.03), 150)
    model.eval()
    loss = F.cross_entropy(model(100 + 40 * x), y).item()
    run.report.validated(loss)
    constant = -sum(p * math.log(p) for p in (torch.bincount(y) / len(y)).tolist())
    return run.end, (
        f"the loss is {run.loss():.3g} in training and {loss:.3g} at best in evaluation, where the best constant "
        f"prediction has {constant:.3g}"
    )


@pytest.mark.slow
@near(APART_IN_EVAL)
def test_a_network_that_is_the_same_in_evaluation():
    torch.manual_seed(0)
    x, y = classes()
    model = normalized()
    run = trained(model, (x, y), F.cross_entropy, adam(model, 0.03), 150)
    model.eval()
    run.report.validated(F.cross_entropy(model(x), y).item())
    return run.end


def labels_by_chance(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(ROWS, COLUMNS, generator=generator), torch.randint(CLASSES, (ROWS,), generator=generator)


@pytest.mark.slow
@ill(NOISE)
def test_labels_that_have_nothing_to_do_with_the_inputs():
    torch.manual_seed(0)
    model = mlp()
    run = trained(model, labels_by_chance, F.cross_entropy, sgd(model, 0.02), 300, micro_batches=4)
    totals = [record.totals for record in run.report.last]
    signals = [t["noise_signal"] for t in totals]
    signal = fmean(signals) + 2 * stdev(signals) / math.sqrt(len(signals))
    scale = fmean(t["noise_variance"] for t in totals) / signal if signal > 0 else math.inf
    assert scale > TIMES * ROWS
    known = f"at least {scale:.2g}" if math.isfinite(scale) else "beyond measure"
    return run.end, f"the gradient noise scale is {known} samples, and a batch has {ROWS}"


@pytest.mark.slow
@near(NOISE)
def test_a_network_that_learns_from_micro_batches():
    torch.manual_seed(0)
    model = mlp()
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 100, micro_batches=4).end


@ill(RANKS_APART)
def test_ranks_of_which_one_has_other_weights():
    """What two ranks find is in test_recorder_ranks; this is how it is said."""
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.03), 60)
    spread = {"0": 3e-3, "2": 0.0}
    run.report.add([replace(run.report.last[-1], step=60, values=run.report.last[-1].values | {DRIFT.name: spread})])
    return run.end, "the norms of the weights differ by 0.3 % from rank to rank in 0, and in 1 of 2 layers at all"


@near(RANKS_APART)
def test_ranks_whose_copies_are_equal():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.03), 60)
    spread = {"0": 0.0, "2": 0.0}
    run.report.add([replace(run.report.last[-1], step=60, values=run.report.last[-1].values | {DRIFT.name: spread})])
    return run.end
