"""What is learnt from the training data, and is of no use for others."""

import pytest
import torch
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, ROWS, adam, ill, mlp, near, noise, trained

from unvanish.gradients.judge.rules import OVERFITTING, USELESS
from unvanish.gradients.judge.rules.generalization import GROWN, UNSURE
from unvanish.gradients.judge.seen import LEARNS, STUCK


def entropy(y):
    """What the best constant prediction costs, in nats."""
    rates = torch.bincount(y).double() / len(y)
    return -(rates * rates.log()).sum().item()


def flipped(seed, share, rows=ROWS):
    """Which of the first columns is the largest, and for a share of the samples any class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, COLUMNS, generator=generator)
    wrong = torch.rand(rows, generator=generator) < share
    others = torch.randint(CLASSES, (rows,), generator=generator)
    return x, x[:, :CLASSES].argmax(1).where(~wrong, others)


def validated(model, data, others, steps):
    """Trained on some data; others are looked at every tenth step."""
    found = []

    def look(step):
        if step % 10 == 9:
            with torch.no_grad():
                found.append(F.cross_entropy(model(others[0]), others[1]).item())

    run = trained(model, data, F.cross_entropy, adam(model, 0.03), steps, prepare=look)
    for loss in found:
        run.report.validated(loss)
    return run, found


@pytest.mark.slow
@ill(USELESS)
def test_noise_that_is_learnt_by_heart():
    x, y = noise()
    run, found = validated(mlp(width=32), (x, y), flipped(3, 1.0), 120)
    assert run.loss() < (1 - LEARNS) * entropy(y)
    assert min(found) >= (1 - STUCK) * entropy(y)
    return run.end, (
        f"the validation loss has been {min(found):.3g} at best, where the best constant prediction has "
        f"{entropy(y):.3g}, and the training loss is {run.loss(60):.3g}"
    )


@pytest.mark.slow
@ill(USELESS)
def test_noise_of_which_some_other_rows_were_guessed_by_chance():
    x, y = noise()
    run, _ = validated(mlp(width=32), (x, y), flipped(3, 1.0), 120)
    constant = entropy(y)
    best, last = (1 - UNSURE + 0.01) * constant, 1.01 * constant
    run.report._validation.clear()
    for loss in (best, last):  # of few rows, some of which were right
        run.report.validated(loss)
    return run.end, (
        f"the validation loss has been {best:.3g} at best, where the best constant prediction has {constant:.3g}, "
        f"and the training loss is {run.loss(60):.3g}"
    )


@near(USELESS)
def test_a_network_that_is_too_sure_of_some_wrong_answers_late():
    data = flipped(1, 0.3)
    run, found = validated(mlp(), data, flipped(2, 0.3, 1000), 60)
    assert GROWN * min(found) > found[-1] > entropy(data[1]) > min(found)
    return run.end


@pytest.mark.slow
@ill(OVERFITTING)
def test_wrong_labels_that_are_learnt_by_heart_at_last():
    run, found = validated(mlp(width=32), flipped(1, 0.3), flipped(2, 0.3, 1000), 400)
    assert found[-1] > GROWN * min(found)
    return run.end, (
        f"the validation loss has grown from {min(found):.3g} to {found[-1]:.3g}, "
        f"and the training loss is {run.loss():.3g}"
    )


@near(OVERFITTING)
def test_a_loss_on_other_data_that_has_stopped_falling():
    run, found = validated(mlp(), flipped(1, 0.05), flipped(2, 0.05, 1000), 50)
    assert min(found) < found[-1] < GROWN * min(found)
    return run.end
