"""Which steps are measured how, and what that does to the smallest gradients."""

import pytest
import torch
from recorded import NETWORKS, assert_equal, batches, split, train
from torch import nn

from unvanish.gradients import GradientRecorder, Report

IN_BETWEEN = {"gradient_norm", "gradient_rms"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["mlp", "pooled", "lstm"])
def test_the_first_steps_and_then_every_nth_are_full_and_those_between_are_right(name, dtype):
    torch.manual_seed(0)
    make, activations = NETWORKS[name]
    model, records = make().to(dtype), []
    with GradientRecorder(model, every_n_steps=5, first_steps=3, histogram_every_n_steps=10) as recorder:
        steps = split(batches(dtype, 13), 1)

        class Flushing:
            def before_step(self, step, **options):
                recorder.before_step(step)

            def after_step(self):
                recorder.after_step()
                records.extend(recorder.flush())

        expected = train(make, model, steps, activations, Flushing())
    full = [0, 1, 2, 5, 10]
    assert [record.step for record in records if "delta_norm" in record.values] == full
    assert [record.step for record in records if "gradient_cosine" in record.values] == [1, 2, 3, 6, 11]
    assert [record.step for record in records if record.histograms] == [0, 10]
    for record, (values, totals, _) in zip(records, expected, strict=True):
        shown = values.keys() if record.step in full else IN_BETWEEN
        cosine = {"gradient_cosine"} if record.step in (1, 2, 3, 6, 11) else set()
        assert_equal(record.values, {q: values[q] for q in values if q in (shown - {"gradient_cosine"}) | cosine})
        assert record.totals["gradient_norm"] == pytest.approx(totals["gradient_norm"], rel=1e-5)


def test_the_defaults_are_ten_full_steps_and_then_every_twentieth():
    model = nn.Linear(3, 2)
    with GradientRecorder(model) as recorder:
        for step in range(45):
            model(torch.ones(5, 3)).sum().backward()
            recorder.before_step(step)
            assert bool(model._forward_hooks) == (step < 9 or step % 20 == 19)
        assert [r.step for r in recorder.flush() if "delta_norm" in r.values] == [*range(10), 20, 40]


class Scaled(nn.Module):
    """Its first layer's gradient is as small as ``factor`` makes it."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.factor = nn.Linear(5, 7), nn.Linear(7, 3), 1.0

    def forward(self, x):
        return self.last(self.factor * self.first(x) + 1)


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e-25, 1e-20, 1e-18, 1e-14, 1e-12, 1e12, 1e30])
def test_a_gradient_that_dies_vanishes_or_explodes_between_two_full_steps_is_right_at_every_step(factor):
    torch.manual_seed(0)
    model, x = Scaled(), torch.randn(11, 5)
    with GradientRecorder(model, every_n_steps=20, first_steps=1) as recorder:
        for number in range(4):
            model.zero_grad()
            model.factor = 1.0 if number < 2 else factor
            model(x).sum().backward()
            recorder.before_step(number)
            if number == 0:
                recorder.flush()
        record = recorder.flush()[-1]
    expected = model.first.weight.grad.double().norm().item()
    assert record.values["gradient_norm"]["first"] == pytest.approx(expected, rel=1e-5, abs=0)
    everything = torch.cat([p.grad.double().flatten() for p in model.parameters()]).norm().item()
    assert record.totals["gradient_norm"] == pytest.approx(everything, rel=1e-5, abs=0)


def test_an_infinite_gradient_between_two_full_steps_is_infinite_and_said():
    model, report = Scaled(), Report()
    with GradientRecorder(model, every_n_steps=20, first_steps=1) as recorder:
        for number in range(3):
            model.zero_grad()
            (model(torch.ones(3, 5)).sum() * (torch.inf if number == 2 else 1)).backward()
            recorder.before_step(number)
        report.add(recorder.flush())
    assert report.broken.values["gradient_norm"]["last"] == torch.inf
    assert report.end.name == "nan"
    assert report.end.evidence == "the gradient is inf in last"


def test_nan_is_shown_between_full_steps():
    model = nn.Linear(3, 2)
    with GradientRecorder(model, first_steps=1) as recorder:
        for step, value in enumerate((1.0, 1.0, float("nan"))):
            model.zero_grad()
            model(torch.full((5, 3), value)).sum().backward()
            recorder.before_step(step)
            (record,) = recorder.flush()
        assert not record.is_finite


def test_a_step_without_any_gradient_is_recorded_as_such():
    model = nn.Linear(3, 2)
    with GradientRecorder(model) as recorder:
        recorder.before_step(0)
        recorder.after_step()
    (record,) = recorder.flush()
    assert (record.values, record.totals) == ({}, {})
