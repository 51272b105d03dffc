"""Targets that a loss was not made for."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, ROWS, adam, classes, ill, inputs, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients import GradientRecorder, Report
from unvanish.gradients.judge.rules import (
    BINARY_OF_MANY,
    CONSTANT_LABELS,
    LABELS_OUTSIDE,
    LABELS_WITHOUT_SIGN,
    ONE_SIDED_BATCHES,
    SQUARED_LABELS,
)
from unvanish.gradients.judge.seen import STUCK


def one_hot(data):
    x, y = data
    return x, F.one_hot(y, CLASSES).float()


@ill(LABELS_OUTSIDE)
def test_labels_of_minus_1_and_1():
    x, number = numbers()
    model = mlp(1)
    run = trained(model, (x, number.sign()), F.binary_cross_entropy_with_logits, sgd(model))
    return run.end, "the targets of the binary cross-entropy reach from -1 to 1"


@ill(LABELS_OUTSIDE)
def test_class_numbers():
    x, y = classes()
    model = mlp(1)
    run = trained(model, (x, y.unsqueeze(-1).float()), F.binary_cross_entropy_with_logits, sgd(model))
    return run.end, f"the targets of the binary cross-entropy reach from 0 to {CLASSES - 1}"


@near(LABELS_OUTSIDE)
def test_soft_labels():
    x, number = numbers()
    model = mlp(1)
    y = 0.05 + 0.9 * (number > 0)
    return trained(model, (x, y), F.binary_cross_entropy_with_logits, adam(model, 0.03), 100).end


def hinge(f, y):
    return (1 - y * f).relu().mean()


@ill(LABELS_WITHOUT_SIGN)
@pytest.mark.parametrize("loss", [F.soft_margin_loss, hinge])
def test_labels_0_and_1_of_a_margin_loss(loss):
    x, number = numbers()
    model = mlp(1)
    run = trained(model, (x, (number > 0).float()), loss, sgd(model))
    return run.end, f"of {20 * ROWS} labels of a margin loss all are 0 or 1, and none is -1"


@near(LABELS_WITHOUT_SIGN)
@pytest.mark.parametrize("loss", [F.soft_margin_loss, hinge])
def test_labels_minus_1_and_1_of_a_margin_loss(loss):
    x, number = numbers()
    model = mlp(1)
    return trained(model, (x, number.sign()), loss, adam(model, 0.03), 100).end


def in_order(step, classes_=4, rows=32):
    """Batch by batch, a class after the other."""
    generator = torch.Generator().manual_seed(step)
    y = torch.full((rows,), step // 3 % classes_)
    return F.one_hot(y, 5) + 0.1 * torch.randn(rows, 5, generator=generator), y


@ill(ONE_SIDED_BATCHES)
def test_data_that_are_sorted_by_class():
    model = mlp(4)
    run = trained(model, in_order, F.cross_entropy, adam(model, 0.03), 60)
    return run.end, "a batch has 1 of the 4 classes that were seen, of 20 batches"


@near(ONE_SIDED_BATCHES)
def test_batches_too_small_for_all_classes():
    model = mlp(4)

    def data(step):
        x, y = zip(*(in_order(3 * index, rows=1) for index in torch.randint(4, (3,)).tolist()), strict=True)
        return torch.cat(x), torch.cat(y)

    return trained(model, data, F.cross_entropy, adam(model, 0.03), 100).end


@pytest.mark.slow
@near(ONE_SIDED_BATCHES)
@pytest.mark.parametrize("rows", [8, 16, 32])
def test_shuffled_rows_of_which_two_classes_are_rare(rows):
    """Most batches have the usual class alone."""
    model = mlp()
    shares, generator = torch.tensor([0.98, 0.01, 0.01]), torch.Generator().manual_seed(3)

    def data(step):
        y = torch.multinomial(shares, rows, replacement=True, generator=generator)
        return F.one_hot(y, 5) + 0.1 * torch.randn(rows, 5, generator=generator), y

    return trained(model, data, F.cross_entropy, adam(model, 0.03), 100).end


@ill(CONSTANT_LABELS)
def test_one_class_alone():
    model = mlp()
    run = trained(model, (inputs(), torch.ones(ROWS, dtype=torch.long)), F.cross_entropy, sgd(model))
    return run.end, f"all {ROWS * len(run.losses)} targets that were seen are alike"


@ill(CONSTANT_LABELS)
def test_one_number_alone():
    model = mlp(1)
    run = trained(model, (inputs(), torch.full((ROWS, 1), 0.5)), F.mse_loss, sgd(model))
    return run.end, f"all {ROWS * len(run.losses)} targets that were seen are alike"


@near(CONSTANT_LABELS)
def test_a_generator_whose_labels_are_all_real():
    model = nn.ModuleDict({"generator": mlp(2), "critic": nn.Sequential(nn.Linear(2, 11), nn.ReLU(), nn.Linear(11, 1))})
    optimizers = [torch.optim.Adam(model[name].parameters(), 0.003) for name in ("critic", "generator")]
    report = Report()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        recorder.optimizes(*optimizers)

        def step(number, part, optimizer, loss):
            optimizer.zero_grad()
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(number, model[part].parameters(), loss=loss)
            optimizer.step()
            recorder.after_step(optimizer)

        for number in range(30):
            made, real = model["generator"](torch.randn(ROWS, 5)), torch.randn(ROWS, 2) + 2
            z = model["critic"](torch.cat([made.detach(), real]))
            y = torch.cat([torch.zeros(ROWS, 1), torch.ones(ROWS, 1)])
            step(number, "critic", optimizers[0], F.binary_cross_entropy_with_logits(z, y))
            z = model["critic"](model["generator"](torch.randn(ROWS, 5)))
            step(number, "generator", optimizers[1], F.binary_cross_entropy_with_logits(z, torch.ones(ROWS, 1)))
    report.add(recorder.flush())
    return report.end


@ill(SQUARED_LABELS)
def test_a_softmax_under_the_squared_error():
    model = mlp(end=nn.Softmax(-1))
    run = trained(model, one_hot(classes()), F.mse_loss, sgd(model))
    return run.end, f"the squared error is taken of {CLASSES} classes' one-hot labels"


@ill(SQUARED_LABELS)
def test_a_sigmoid_that_is_sure_and_wrong_under_the_squared_error():
    x, number = numbers()
    y = (number > 0).float()
    model = mlp(1, end=nn.Sigmoid())
    with torch.no_grad():
        model[2].bias += 20
    run = trained(model, (x, y), F.mse_loss, sgd(model))
    assert run.loss() > (1 - STUCK) * y.var(correction=0)
    return run.end, "the squared error is taken of labels 0 and 1, after a sigmoid"


XOR = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([[0.0], [1], [1], [0]])


@pytest.mark.slow
@near(SQUARED_LABELS)
def test_xor_with_a_sigmoid_and_the_squared_error():
    model = nn.Sequential(nn.Linear(2, 7), nn.Tanh(), nn.Linear(7, 1), nn.Sigmoid())
    run = trained(model, XOR, F.mse_loss, adam(model, 0.05), 150)
    assert run.losses[-1] < 0.05
    return run.end


@ill(BINARY_OF_MANY)
def test_a_softmax_under_the_binary_cross_entropy():
    x, y = one_hot(noise())
    model = mlp(end=nn.Softmax(-1))
    run = trained(model, (x, y), F.binary_cross_entropy, sgd(model, 0.01))
    rates = y.mean(0)
    constant = -(rates * rates.log() + (1 - rates) * (1 - rates).log()).mean()
    assert run.loss() > (1 - STUCK) * constant
    return run.end, f"the binary cross-entropy is taken of a softmax over {CLASSES} classes"


@near(BINARY_OF_MANY)
def test_several_labels_at_once():
    x = inputs()
    y = (x[:, :CLASSES] > 0).float()
    model = mlp(end=nn.Sigmoid())
    run = trained(model, (x, y), F.binary_cross_entropy, adam(model, 0.03), 80)
    assert run.losses[-1] < 0.5 * math.log(2)
    return run.end
