"""Which of the passes that a loop makes belong to a step, and to which."""

import math

import pytest
import torch
from autograd_twin import root
from parts import CLASSES, INPUTS, SAMPLES, mlp
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder, Report


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SAMPLES, INPUTS, generator=generator), torch.zeros(SAMPLES, dtype=torch.long)


def loss_of(model, seed=1):
    x, y = batch(seed)
    return F.cross_entropy(model(x), y)


def delta_of_first(model, run):
    """|dL/dz| of the first layer in the one pass that ``run`` makes, by a hook of torch's own."""
    kept = []
    handle = model[0].register_forward_hook(lambda _, inputs, z: (kept.append(z), z.retain_grad())[0])
    run()
    handle.remove()
    return root([z.grad for z in kept])


@pytest.mark.parametrize("to_none", [True, False])
def test_sam_is_its_second_pass_and_has_no_noise(to_none):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            optimizer.zero_grad(set_to_none=to_none)
            loss_of(model).backward()
            with torch.no_grad():
                moves = [0.5 * p.grad / p.grad.norm() for p in model.parameters()]
                for parameter, move in zip(model.parameters(), moves, strict=True):
                    parameter.add_(move)
            optimizer.zero_grad(set_to_none=to_none)
            expected.append(delta_of_first(model, lambda: loss_of(model).backward()))
            with torch.no_grad():
                for parameter, move in zip(model.parameters(), moves, strict=True):
                    parameter.sub_(move)
            recorder.before_step(step, batch_size=SAMPLES)
            optimizer.step()
            recorder.after_step()
    records = recorder.flush()
    assert [record.values["delta_norm"]["0"] for record in records] == pytest.approx(expected, rel=1e-5)
    assert not any("noise_variance" in record.totals for record in records)


def test_micro_batches_add_up_where_gradients_are_zeros_at_first():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(2):
            optimizer.zero_grad(set_to_none=False)
            deltas = [delta_of_first(model, lambda seed=seed: loss_of(model, seed).backward()) for seed in (1, 2, 3)]
            recorder.before_step(step, batch_size=SAMPLES)
    records = recorder.flush()
    assert [record.values["delta_norm"]["0"] for record in records] == [pytest.approx(math.hypot(*deltas))] * 2
    assert all("noise_variance" in record.totals for record in records)


def test_two_losses_on_one_graph_are_said_and_no_delta_is_half_of_the_truth():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.cell, self.leave = nn.Linear(INPUTS, 7), nn.GRUCell(7, 7), nn.Linear(7, CLASSES)
            self.rnn = nn.GRU(7, 7)

        def forward(self, x):
            h = self.enter(x)
            h = h + self.rnn(h.expand(9, -1, -1))[0][-1]
            for _ in range(5):
                h = self.cell(h, h)
            return self.leave(h)

    model, (x, y) = Residual(), batch()
    with GradientRecorder(model) as recorder:
        logits = model(x)
        F.cross_entropy(logits, y).backward(retain_graph=True)
        logits.square().mean().backward()
        recorder.before_step(0, batch_size=SAMPLES)
    (record,) = recorder.flush()
    assert record.through_time == {}
    assert not {"delta_norm", "stream_norm"} & record.values.keys()
    assert "noise_variance" not in record.totals
    assert record.values["gradient_norm"] == pytest.approx(
        {"enter": root([model.enter.weight.grad]), "leave": root([model.leave.weight.grad])}
        | {name: root([p.grad for p in getattr(model, name).parameters() if p.dim() > 1]) for name in ("cell", "rnn")},
        rel=1e-5,
    )
    assert any("differentiated more than once" in note for note in recorder.notes)


class Adversaries(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.critic = mlp(4, INPUTS, hidden=1), mlp(INPUTS, 1)


@pytest.mark.parametrize("reused", [True, False], ids=["one sample for both", "a sample each"])
@pytest.mark.parametrize("told", [True, False])
def test_a_generator_and_its_critic_are_two_parts_judged_by_themselves(told, reused):
    torch.manual_seed(0)
    model, report = Adversaries(), Report()
    with torch.no_grad():
        model.generator[0].weight.mul_(1e-8)
        model.generator[2].weight.mul_(1e-8)
    parts = ((model.critic, 0.1), (model.generator, 1e-12))  # which would recover
    optimizers = [torch.optim.SGD(part.parameters(), lr=rate) for part, rate in parts]
    kept = []
    with GradientRecorder(model, every_n_steps=1) as recorder:

        def step(number, part, optimizer, loss):
            optimizer.zero_grad()
            if told:
                recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(number, part.parameters())
            optimizer.step()
            recorder.after_step(optimizer)

        for number in range(3):
            made = model.generator(torch.randn(SAMPLES, 4))
            real = model.critic(batch(number)[0])
            step(number, model.critic, optimizers[0], F.softplus(-real).sum() + model.critic(made.detach()).exp().sum())
            if not reused:
                made = model.generator(torch.randn(SAMPLES, 4))
            made.retain_grad()
            kept.append(made)
            step(number, model.generator, optimizers[1], F.softplus(-model.critic(made)).sum())
    records = recorder.flush()
    report.add(records)
    assert [record.part for record in records] == ["critic", "generator"] * 3
    assert [[trunk.layers for trunk in record.trunks] for record in records[-2:]] == [
        [tuple(f"critic.{index}" for index in (0, 2, 4, 6))],
        [tuple(f"generator.{index}" for index in (0, 2, 4))],
    ]
    found = [record.values["delta_norm"]["generator.4"] for record in records[1::2]]
    assert found == pytest.approx([root([made.grad]) for made in kept], rel=1e-5)
    assert (report.end.name, report.end.findings[0].where) == ("vanishing", "generator")
    assert not any("delta" in note for note in recorder.notes)


def test_a_recurrent_generator_that_runs_before_its_critic_s_step_is_read_through_time():
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.GRU(4, INPUTS), "critic": mlp(INPUTS, 1)})
    with GradientRecorder(model) as recorder:
        made = model["generator"](torch.randn(9, SAMPLES, 4))[0]
        model["critic"](made[-1].detach()).sum().backward()
        recorder.before_step(0, model["critic"].parameters())
        model.zero_grad()
        model["critic"](made[-1]).sum().backward()
        recorder.before_step(0, model["generator"].parameters())
    assert [list(record.through_time) for record in recorder.flush()] == [[], ["generator"]]
