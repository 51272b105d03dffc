"""A gradient that shrinks or grows on its way back, through layers and through time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, adam, classes, ill, mlp, near, noise, sgd, trained

import unvanish
from unvanish.gradients.judge.rules import EXPLODING, EXPLODING_IN_TIME, VANISHING, VANISHING_IN_TIME
from unvanish.gradients.judge.rules.depth import VANISHED


def along(deltas):
    """The sentence on a gradient that shrinks or grows."""
    first, *_, last = deltas
    ratio = deltas[first] / deltas[last]
    factor = ratio ** (1 / (len(deltas) - 1))
    times = f"{first} gets {ratio:.2g} times the gradient that {last} gets"
    return ratio, f"{times}, a factor of {factor:.3g} a layer over {len(deltas)} layers"


@ill(VANISHING)
def test_sigmoid_layers():
    model = mlp(hidden=9, activation=nn.Sigmoid)
    run = trained(model, noise(), F.cross_entropy, sgd(model))
    ratio, evidence = along(run.medians("delta"))
    assert ratio < VANISHED
    assert run.end.first_over_last == pytest.approx(ratio, rel=1e-4)
    return run.end, evidence


@pytest.mark.slow
@near(VANISHING)
def test_ten_layers_of_relu_as_he_begins_them():
    model = mlp(hidden=9, width=32)
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return trained(model, classes(), F.cross_entropy, adam(model, 0.003), 60).end


@ill(EXPLODING)
def test_relu_layers_of_four_times_he_s_size():
    model = mlp(hidden=12, width=32, gain=4 * 2**0.5)
    run = trained(model, noise(), F.cross_entropy, sgd(model, 1e-20), 12)
    ratio, evidence = along(run.medians("delta"))
    assert ratio > 1 / VANISHED
    return run.end, evidence


@pytest.mark.slow
@near(EXPLODING)
def test_batch_normalization_without_residual_connections():
    layers = []
    for number in range(10):
        layers += [nn.Linear(32 if number else 5, 32), nn.BatchNorm1d(32), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(32, CLASSES))
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.003), 60)
    assert run.report.start.factor_per_layer > 1.1
    return run.end


class Reads(nn.Module):
    """Answers after the last time step."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.leave = layer, nn.Linear(layer.hidden_size, CLASSES)

    def forward(self, x):
        return self.leave(self.layer(x)[0][:, -1])


def rnn(gain, nonlinearity="tanh"):
    layer = nn.RNN(1, 11, batch_first=True, nonlinearity=nonlinearity)
    nn.init.orthogonal_(layer.weight_hh_l0, gain)
    return Reads(layer)


def through_time(model, x, y):
    """|dL/dh_1| and |dL/dh_T| of a plain recurrent layer, step by step."""
    layer = model.layer
    act = torch.relu if layer.nonlinearity == "relu" else torch.tanh
    h, states = torch.zeros(len(x), layer.hidden_size), []
    for x_t in x.unbind(1):
        h = act(x_t @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0)
        states.append(h)
    found = torch.autograd.grad(F.cross_entropy(model.leave(h), y), [states[0], states[-1]])
    return [gradient.norm().item() for gradient in found]


def sequences(length, rows=32):
    x = torch.randn(rows, length, 1, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0, 0] > 0).long()


@ill(VANISHING_IN_TIME)
def test_a_tanh_layer_of_half_the_size_over_twenty_steps():
    return judged_through_time(rnn(0.5), *sequences(20))


@ill(EXPLODING_IN_TIME)
def test_a_relu_layer_of_three_times_the_size_over_twenty_steps():
    model = rnn(1.0, "relu")
    with torch.no_grad():
        model.layer.weight_hh_l0.copy_(2 * torch.eye(11))
    return judged_through_time(model, *sequences(20))


def judged_through_time(model, x, y):
    early, late = through_time(model, x, y)
    steps = x.shape[1]
    factor = (early / late) ** (1 / (steps - 1))
    times = f"h_1 gets {early / late:.2g} times the gradient that h_{steps} gets"
    evidence = f"in layer, {times}, a factor of {factor:.3g} a time step"
    return unvanish.diagnose(model, (x, y), F.cross_entropy).verdict, evidence


@near(VANISHING_IN_TIME)
def test_a_gru_as_torch_begins_it():
    x, y = sequences(20)
    model = Reads(nn.GRU(1, 11, batch_first=True))
    verdict = unvanish.diagnose(model, (x, y), F.cross_entropy)
    norms = verdict.record.through_time["layer"]
    assert norms[1] < VANISHED * norms[20]
    return verdict.verdict


@near(EXPLODING_IN_TIME)
def test_orthogonal_recurrent_weights():
    x, y = sequences(20)
    return unvanish.diagnose(rnn(1.0), (x / 10, y), F.cross_entropy).verdict
