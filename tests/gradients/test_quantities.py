"""Measures beside plain autograd: whether a step goes down, how weights begin, what gradients are left."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

ROWS, COLUMNS, CLASSES = 13, 5, 3


def network():
    return nn.Sequential(nn.Linear(COLUMNS, 11), nn.Tanh(), nn.Linear(11, CLASSES))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, COLUMNS, generator=generator), torch.randint(CLASSES, (ROWS,), generator=generator)


def recorded(model, make, steps=3, scaler=None):
    """The records, and beside each step the cosine between the move of each layer's weight and minus its gradient."""
    optimizer = make(model.parameters())
    x, y = batch()
    expected = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            recorder.before_step(step)
            layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
            before = {name: layer.weight.detach().double().clone() for name, layer in layers.items()}
            slopes = {name: layer.weight.grad.double().clone() for name, layer in layers.items()}
            optimizer.step()
            recorder.after_step(optimizer)
            moved = {name: layer.weight.detach().double() - before[name] for name, layer in layers.items()}
            expected.append({n: -(m * slopes[n]).sum() / m.norm() / slopes[n].norm() for n, m in moved.items()})
        return recorder.flush(), expected


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda p: torch.optim.SGD(p, 0.1), 1.0),
        (lambda p: torch.optim.SGD(p, 0.1, maximize=True), -1.0),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), None),
        (lambda p: torch.optim.Adam(p, 0.01), None),
        (lambda p: torch.optim.Adam(p, 0.01, maximize=True), None),
        (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.3), None),
        (lambda p: torch.optim.RMSprop(p, 0.01), None),
    ],
    ids=["SGD", "SGD up", "Nesterov", "Adam", "Adam up", "AdamW", "RMSprop"],
)
def test_descent_is_the_cosine_of_the_step_and_minus_the_gradient(make, value):
    torch.manual_seed(0)
    records, expected = recorded(network(), make)
    for record, found in zip(records, expected, strict=True):
        cosines = {name: cosine.item() for name, cosine in found.items()}
        assert record.values["descent"] == pytest.approx(cosines, abs=1e-5)
        if value is not None:
            assert [*cosines.values()] == pytest.approx([value, value], abs=1e-5)


def test_of_a_step_that_moves_nothing_there_is_no_direction():
    records, _ = recorded(network(), lambda p: torch.optim.SGD(p, 0.0))
    assert all(math.isnan(value) for record in records for value in record.values["descent"].values())


# How weights begin


def first(model, *shape, x=None):
    """What the first step shows."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1)) if x is None else x
    with GradientRecorder(model) as recorder:
        model(x).square().sum().backward()
        recorder.before_step(0)
        return recorder.flush()[0].values


@pytest.mark.parametrize(
    ("fill", "gain"),
    [
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), math.sqrt(2)),
        (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), math.sqrt(2)),
        (nn.init.xavier_normal_, None),
        (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), 1 / math.sqrt(3)),
        (lambda w: nn.init.normal_(w, std=1 / math.sqrt(w[0].numel())), 1.0),
        (nn.init.orthogonal_, None),
    ],
    ids=["He", "He, uniform", "Xavier", "torch", "LeCun", "orthogonal"],
)
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(64, 32), (ROWS, 64)),
        (nn.Conv2d(8, 32, 3), (2, 8, 5, 5)),
        (nn.Conv1d(8, 32, 5, groups=2), (2, 8, 11)),
    ],
    ids=["linear", "convolution", "grouped convolution"],
)
def test_gain_is_sigma_times_the_root_of_the_fan_in(fill, gain, model, shape):
    torch.manual_seed(0)
    fill(model.weight)
    weight = model.weight.detach().double()
    found = first(model, *shape)["gain"][type(model).__name__]
    fan_in = weight[0].numel()
    assert found == pytest.approx(weight.square().mean().sqrt().item() * math.sqrt(fan_in), rel=1e-6)
    if gain is not None:
        assert found == pytest.approx(gain, rel=0.05)


def test_a_gain_of_a_layer_is_what_it_makes_of_inputs_of_variance_1():
    torch.manual_seed(0)
    model = nn.Linear(64, 256, bias=False)
    gain = first(model, ROWS, 64)["gain"]["Linear"]
    assert model(torch.randn(4096, 64)).std().item() == pytest.approx(gain, rel=0.05)


def test_an_embedding_multiplies_nothing_and_has_no_gain():
    found = first(nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 3)), x=torch.arange(7))
    assert [*found["gain"]] == ["1"]


@pytest.mark.parametrize(
    ("weight", "units", "inputs"),
    [
        (torch.zeros(3, 4), 1, 1),
        (torch.full((3, 4), 0.5), 1, 1),
        (torch.arange(4.0).expand(3, 4), 1, 0),
        (torch.arange(3.0).unsqueeze(-1).expand(3, 4), 0, 1),
        (torch.arange(12.0).view(3, 4), 0, 0),
        (torch.full((1, 4), 0.5), 0, 1),
        (torch.full((3, 1), 0.5), 1, 0),
    ],
    ids=["zero", "constant", "equal rows", "equal columns", "none", "one unit", "one input"],
)
def test_units_and_inputs_that_begin_alike(weight, units, inputs):
    model = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        model.weight.copy_(weight)
    found = first(model, ROWS, weight.shape[1])
    assert (found["twin_units"]["Linear"], found["twin_inputs"]["Linear"]) == (units, inputs)


def test_of_several_weights_the_share_that_is_alike():
    model = nn.LSTMCell(4, 3)
    nn.init.zeros_(model.weight_hh)
    with GradientRecorder(model) as recorder:
        model(torch.randn(ROWS, 4))[0].sum().backward()
        recorder.before_step(0)
        values = recorder.flush()[0].values
    assert values["twin_units"] == values["twin_inputs"] == {"LSTMCell": 0.5}


def test_what_is_initial_is_seen_at_the_first_step_alone():
    records, _ = recorded(network(), lambda p: torch.optim.SGD(p, 0.1))
    assert ["twin_units" in record.values for record in records] == [True, False, False]


# What is left of earlier gradients


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("how", ["none", "zeros", "never"])
def test_what_a_step_has_found_in_the_gradient(how, micro_batches):
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = batch()
    left = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(4):
            if how != "never":
                optimizer.zero_grad(set_to_none=how == "none")
            left.append(
                {n: math.nan if m.weight.grad is None else m.weight.grad.norm().item() for n, m in layers(model)}
            )
            for part in range(micro_batches):
                F.cross_entropy(model(x[part::micro_batches]), y[part::micro_batches]).backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
        found = [record.values.get("gradient_left", {}) for record in recorder.flush()]
    assert found[0] == {}
    for values, before in zip(found[1:], left[1:], strict=True):
        if how == "none":
            assert values == {}
        else:
            ((name, value),) = values.items()
            assert value == pytest.approx(before[name], rel=1e-6)
            assert (value > 0) == (how == "never")


def layers(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def test_a_scaler_s_factor_is_no_part_of_what_is_left():
    model = network()
    x, y = batch()
    left = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(2):
            (1024.0 * F.cross_entropy(model(x), y)).backward()
            recorder.before_step(step, loss_scale=1024.0, unscaled=False)
            left.append({name: module.weight.grad.norm().item() / 1024 for name, module in layers(model)})
        ((name, value),) = recorder.flush()[1].values["gradient_left"].items()
    assert value == pytest.approx(left[0][name], rel=1e-6)
