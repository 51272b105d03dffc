"""What could not be measured is said, once."""

import math
from dataclasses import dataclass

import pytest
import torch
from recorded import INPUTS, NETWORKS
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder


def one_step(model, x=None):
    with GradientRecorder(model) as recorder:
        model(torch.ones(2, INPUTS) if x is None else x).sum().backward()
        recorder.before_step(0)
    return recorder, recorder.flush()[0].values


def test_a_weight_of_two_layers_is_counted_once_and_said():
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7, bias=False))
    model[1].weight = model[0].weight
    recorder, _ = one_step(model, torch.tensor([1, 2]))
    with recorder:
        model.zero_grad()
        model(torch.tensor([1, 2])).sum().backward()
        recorder.before_step(1)
    (record,) = recorder.flush()
    assert list(record.values["gradient_norm"]) == ["0"]
    assert list(record.values["delta_norm"]) == ["0", "1"]
    assert record.totals["gradient_norm"] == pytest.approx(model[0].weight.grad.norm().item())
    assert recorder.notes == ["dL/dW of 1 was not measured: its weight is another layer's as well, and shown there"]


def test_a_weight_whose_module_is_not_called_is_said():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(INPUTS, 7), nn.Linear(7, 3)

        def forward(self, x):
            return F.linear(self.enter(x), self.leave.weight)

    recorder, values = one_step(Tied())
    assert values["gradient_norm"].keys() - values["delta_norm"].keys() == {"leave"}
    without, note = recorder.notes
    assert without == "1 parameter without a gradient: leave.bias"
    assert note.startswith("delta of leave was not measured")
    assert "its weight is used without calling it" in note


def test_attention_is_one_layer_with_the_weight_that_it_uses_without_calling_its_layer():
    model = NETWORKS["transformer"][0]()
    recorder, values = one_step(model)
    attention = model.encoder.layers[0].self_attn
    expected = torch.cat([attention.in_proj_weight.grad.flatten(), attention.out_proj.weight.grad.flatten()]).norm()
    assert values["gradient_norm"]["encoder.layers.0.self_attn"] == pytest.approx(expected.item())
    assert recorder.notes == []


def test_an_activation_that_the_next_layer_does_not_show_is_said():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(INPUTS, 7), nn.Linear(7, 3)

        def forward(self, x):
            return self.leave(2 * F.gelu(self.enter(x)))

    recorder, values = one_step(Hidden())
    assert recorder.activations["enter"] == "gelu"
    assert list(values["activation_mean"]) == ["leave"]
    assert recorder.notes == ["activation of enter was not measured: it was changed before the next layer received it"]


def test_a_view_that_is_changed_in_place_is_said():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(INPUTS, 3))

        def forward(self, x):
            return (x @ self.weight).transpose(0, 1)

    recorder, values = one_step(nn.Sequential(Turned(), nn.ReLU(inplace=True)))
    assert "delta_norm" not in values
    assert any(note.startswith("delta of 0 was not measured") and "a view" in note for note in recorder.notes)


def test_many_layers_make_one_short_note():
    model = nn.Sequential(*(nn.Linear(INPUTS, INPUTS) for _ in range(7)))
    with GradientRecorder(model) as recorder:
        x = torch.ones(2, INPUTS)
        for layer in model:
            x = F.linear(x, layer.weight)
        x.sum().backward()
        recorder.before_step(0)
        recorder.flush()
    without, note = recorder.notes
    assert without == "7 parameters without a gradient: 0.bias, 1.bias, 2.bias and 4 more"
    assert note.startswith("delta of 0, 1, 2 and 4 more layers was not measured: ")


def test_lazy_layers_that_get_their_shape_in_the_first_step_are_measured_from_the_second_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.LazyLinear(3))
    with GradientRecorder(model) as recorder:
        for step in range(2):
            model.zero_grad()
            F.cross_entropy(model(torch.ones(2, 5)), torch.tensor([0, 1])).backward()
            recorder.before_step(step)
            recorder.after_step()
        records = recorder.flush()
    whole = math.hypot(*(p.grad.norm().item() for p in model.parameters()))
    assert [r.totals["gradient_norm"] for r in records] == [pytest.approx(whole, rel=1e-5)] * 2
    assert list(records[1].values["delta_norm"]) == ["0", "2", "4"]
    assert recorder.notes[:1] == ["the first step of 0, 4 was not measured: layers were added or replaced while it ran"]


def test_modules_that_are_shared_many_times_over_are_walked_once():
    """Each of 24 blocks has the one before it twice: 16 million ways lead to the layer."""
    model = nn.Linear(3, 3)
    for _ in range(24):
        model = nn.Sequential(model, model)
    recorder = GradientRecorder(model)
    assert recorder.layers == [".".join(["0"] * 24)]
    assert recorder._structure.is_whole()


@dataclass
class Hidden:
    """What a layer returns."""

    name: str
    h: torch.Tensor


@dataclass(slots=True)
class Slotted:
    """The same without a dictionary of its own."""

    name: str
    h: torch.Tensor


class Wraps(nn.Module):
    def __init__(self, inputs, outputs, wrap):
        super().__init__()
        self.wrap = wrap
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return self.wrap("h", x @ self.weight)


class Unwraps(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.enter, self.leave = Wraps(5, 7, wrap), Wraps(7, 3, wrap)

    def forward(self, x):
        return self.leave(self.enter(x).h.tanh()).h


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("wrap", [Hidden, Slotted])
def test_layers_that_return_a_dataclass_are_measured(wrap, compiled):
    torch.manual_seed(0)
    model, x = Unwraps(wrap), torch.ones(2, 5)
    z = (x @ model.enter.weight).requires_grad_()
    logits = (z.tanh() @ model.leave.weight).detach().requires_grad_()
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    (delta,) = torch.autograd.grad(z.tanh() @ model.leave.weight, z, logits.grad)
    with GradientRecorder(model) as recorder:
        call = torch.compile(model, backend="aot_eager") if compiled else model
        F.cross_entropy(call(x), torch.tensor([0, 1])).backward()
        recorder.before_step(0)
        (record,) = recorder.flush()
    expected = {"enter": delta.norm().item(), "leave": logits.grad.norm().item()}
    assert record.values["delta_norm"] == pytest.approx(expected, rel=1e-5)
