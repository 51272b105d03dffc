"""Layers that are called again and again: each call's gradient is that of plain autograd."""

import math

import pytest
import torch
from autograd_twin import root
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import unvanish
from unvanish.gradients import GradientRecorder, Report

SAMPLES, INPUTS, UNITS, TIMES = 3, 5, 7, 13


class Own(nn.Module):
    """A cell of one weight."""

    def __init__(self, inputs, units):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, inputs + units) / math.sqrt(inputs + units))

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), len(self.weight)) if h is None else h
        return (torch.cat([x, h], 1) @ self.weight.T).tanh()


class Cells(nn.Module):
    """Cells stacked, or one for each direction; keeps what each call returns, for autograd to leave a gradient in."""

    def __init__(self, kind, levels=1, both=False, again=False):
        super().__init__()
        torch.manual_seed(0)
        self.cells = nn.ModuleList(kind(UNITS if level else INPUTS, UNITS) for level in range(levels))
        self.back = kind(INPUTS, UNITS) if both else None
        self.leave = nn.Linear(2 * UNITS if both else UNITS, 2)
        self.again, self.kept = again, {}

    def call(self, name, cell, *inputs):
        found = checkpoint(cell, *inputs, use_reentrant=False) if self.again else cell(*inputs)
        h = found[0] if isinstance(found, tuple) else found
        h.retain_grad()
        self.kept.setdefault(name, []).append(h)
        return found, h

    def read(self, names, cells, xs):
        states = [None] * len(cells)
        for h in xs:
            for level, cell in enumerate(cells):
                states[level], h = self.call(names[level], cell, h, states[level])  # noqa: PLW2901
        return h

    def forward(self, x):
        h = self.read([f"cells.{level}" for level in range(len(self.cells))], self.cells, x)
        if self.back is not None:
            h = torch.cat([h, self.read(["back"], [self.back], x.flip(0))], 1)
        return self.leave(h)


def x_of(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(model, *micro_batches):
    """The record of a step, and |delta| of every call in each micro-batch."""
    kept = []
    with GradientRecorder(model) as recorder:
        for x in micro_batches:
            model.kept = {}
            model(x).square().sum().backward()
            kept.append({name: [root([h.grad]) for h in calls] for name, calls in model.kept.items()})
        recorder.before_step(0)
    return recorder, recorder.flush()[0], kept


def times_of(length):
    return sorted({round(1 + (length - 1) * k / 7) for k in range(8)})


def at_times(deltas):
    return {t: pytest.approx(deltas[t - 1], rel=1e-5) for t in times_of(len(deltas))}


@pytest.mark.parametrize("options", [{}, {"levels": 2}, {"both": True}, {"again": True}], ids=str)
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell, Own])
def test_each_call_s_gradient_is_that_of_its_output(kind, options):
    _, record, (kept,) = step(Cells(kind, **options), x_of(TIMES, SAMPLES, INPUTS))
    assert record.through_time == {name: at_times(deltas) for name, deltas in kept.items()}


def test_micro_batches_add_up_as_norms():
    xs = [x_of(TIMES, SAMPLES, INPUTS, seed=seed) for seed in range(3)]
    _, record, kept = step(Cells(nn.GRUCell), *xs)
    sums = [math.hypot(*deltas) for deltas in zip(*(part["cells.0"] for part in kept), strict=True)]
    assert record.through_time["cells.0"] == at_times(sums)


@pytest.mark.parametrize("lengths", [(13, 9), (4, 3), (3, 3, 4)])
def test_lengths_that_differ_within_a_step_are_said(lengths):
    recorder, record, _ = step(Cells(nn.GRUCell), *(x_of(length, SAMPLES, INPUTS) for length in lengths))
    assert record.through_time == {}
    assert recorder.notes == ["dL/dh_t of cells.0 was not measured: its sequences differ in length within a step"]


@pytest.mark.parametrize("is_residual", [True, False])
def test_a_block_whose_weights_are_shared_through_depth_is_read_by_call(is_residual):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.enter, self.block, self.leave = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, UNITS), nn.Linear(UNITS, 2)

        def forward(self, x):
            h = self.enter(x)
            for _ in range(9):
                z = self.block(h)
                z.retain_grad()
                self.kept.setdefault("block", []).append(z)
                h = is_residual * h + z.tanh()
            return self.leave(h)

    _, record, (kept,) = step(Shared(), x_of(SAMPLES, INPUTS))
    assert record.through_time == {"block": at_times(kept["block"])}


def test_pieces_of_a_long_sequence_are_read_each_by_itself():
    torch.manual_seed(0)
    model = nn.ModuleDict({"cell": nn.GRUCell(INPUTS, UNITS), "leave": nn.Linear(UNITS, 2)})
    h, expected = torch.zeros(SAMPLES, UNITS), []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for number in range(3):
            model.zero_grad()
            h, states, loss = h.detach(), [], 0
            for x in x_of(6, SAMPLES, INPUTS, seed=number):
                h = model["cell"](x, h)
                h.retain_grad()
                states.append(h)
                loss = loss + model["leave"](h).square().sum()
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(number)
            expected.append({"cell": at_times([root([state.grad]) for state in states])})
    records = recorder.flush()
    assert [record.through_time for record in records] == expected
    assert not any("stream_norm" in record.values for record in records)  # a sum of losses is none


def test_in_a_raw_loop_that_tells_no_loss_the_times_are_said_to_be_missing():
    model = nn.ModuleDict({"cell": nn.GRUCell(INPUTS, UNITS), "leave": nn.Linear(UNITS, 2)})
    h = None
    with GradientRecorder(model) as recorder:
        for x in x_of(6, SAMPLES, INPUTS):
            h = model["cell"](x, h)
        model["leave"](h).sum().backward()
        recorder.before_step(0)
    recorder.flush()
    assert recorder.layers == ["cell", "leave"]
    assert recorder.notes == [
        "dL/dh_t of cell was not measured: neither the model itself was called nor before_backward"
    ]


class Reads(nn.Module):
    """Recurrent layers beside one another."""

    def __init__(self, *gains):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.RNN(INPUTS, UNITS, batch_first=True) for _ in gains)
        self.leave = nn.Linear(UNITS, 2)
        for layer, gain in zip(self.layers, gains, strict=True):
            nn.init.orthogonal_(layer.weight_hh_l0, gain)

    def forward(self, x, last=-1):
        return self.leave(sum(layer(x)[0][torch.arange(len(x)), last] for layer in self.layers))


@pytest.mark.parametrize("gains", [(0.9, 0.2), (0.2, 0.9), (0.6, 0.2, 0.9)])
def test_the_recurrent_layer_that_is_worst_off_is_judged_and_that_it_is_through_time_is_said(gains):
    found = unvanish.diagnose(Reads(*gains), (x_of(SAMPLES, 30, INPUTS), torch.tensor([0, 1, 0])), F.cross_entropy)
    assert found.as_dict()["verdict"] == "vanishing through time"
    assert str(found.verdict).startswith(f"vanishing through time: in layers.{gains.index(min(gains))}, h_1 gets")


@pytest.mark.parametrize(
    ("gain", "lengths", "name"),
    [(1.0, (2, 3, 5, 8, 12, 20, 29, 30), "healthy"), (0.3, (27, 30, 28), "vanishing through time")],
)
def test_of_padded_texts_each_one_s_own_gradient_counts(gain, lengths, name):
    model, lengths = Reads(gain), torch.tensor(lengths * 4)
    report = Report()
    with GradientRecorder(model) as recorder:
        loss = F.cross_entropy(model(x_of(len(lengths), 30, INPUTS), lengths - 1), torch.arange(len(lengths)) % 2)
        recorder.before_backward(loss)
        loss.backward()
        recorder.before_step(0)
    report.add(recorder.flush())
    assert report.end.name == name, report.end


def test_one_layer_is_singular():
    model = nn.Linear(INPUTS, 2)
    found = unvanish.diagnose(model, (x_of(SAMPLES, INPUTS), torch.tensor([0, 1, 0])), F.cross_entropy)
    assert found.verdict.evidence == "delta = dL/dz was measured at 1 layer"
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, 2))
    nn.init.constant_(model[0].bias, -100)
    found = unvanish.diagnose(model, (x_of(SAMPLES, INPUTS), torch.tensor([0, 1, 0])), F.cross_entropy)
    assert found.verdict.evidence == "100% of the units are never positive: 100% in 0"
