import re

import pytest
import torch
from lightning import Callback
from torch.optim import lr_scheduler

from unvanish.training import Optimizer, Schedule

STEPS = 53


def torch_rates(kind, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = kind(optimizer, **options), []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def factors(schedule, first, last):
    return [schedule.factor(step, last) for step in range(first, last)]


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("cosine", lr_scheduler.CosineAnnealingLR, lambda final: {"T_max": STEPS, "eta_min": final}),
        ("linear", lr_scheduler.LinearLR, lambda f: {"start_factor": 1.0, "end_factor": f, "total_iters": STEPS}),
    ],
)
def test_shapes_are_those_of_torch(name, kind, options, final, warmup):
    rates = factors(Schedule(name, warmup, final), warmup, warmup + STEPS)
    assert rates == pytest.approx(torch_rates(kind, **options(final)), abs=1e-9)
    beyond = [Schedule(name, warmup, final).factor(step, STEPS) for step in (STEPS, STEPS + 1, 10 * STEPS)]
    assert beyond == pytest.approx([final] * 3)


def test_one_cycle_is_that_of_torch():
    # torch turns at pct_start * total_steps - 1 and ends at total_steps - 1; ours turns at 0.3 STEPS and ends at STEPS
    options = {"max_lr": 1.0, "total_steps": STEPS + 1, "pct_start": (0.3 * STEPS + 1) / (STEPS + 1)}
    rates = torch_rates(lr_scheduler.OneCycleLR, cycle_momentum=False, **options)
    assert factors(Schedule("one_cycle"), 0, STEPS) == pytest.approx(rates, abs=1e-9)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warmup_is_a_straight_line_to_the_full_rate(name):
    assert [Schedule(name, 4).factor(step, STEPS) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_constant_stays():
    assert factors(Schedule(), 0, STEPS) == [1] * STEPS
    assert [Schedule(warmup_steps=warmup).is_constant for warmup in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'? (known: constant, "),
        ({"warmup_steps": -1}, "schedule.warmup_steps is -1; it must be at least 0"),
        ({"name": "linear", "final": 1.5}, "schedule.final is 1.5; it must be between 0 and 1"),
        ({"name": "one_cycle", "final": 0.5}, "schedule.final is for linear and cosine; the schedule is one_cycle"),
        ({"name": "one_cycle", "warmup_steps": 3}, "schedule.warmup_steps is not for one_cycle"),
        ({"final": 0.5}, "schedule.final is for linear and cosine; the schedule is constant"),
    ],
)
def test_schedules_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Schedule(**options)


class Rates(Callback):
    """Writes down the learning rates of every optimizer step; after ``save_after`` of them, saves a checkpoint."""

    def __init__(self, save_after=None, path=None):
        self.rates, self.save_after, self.path = [], save_after, path

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.save_after:
            trainer.save_checkpoint(self.path)


def rates_of_a_fit(affine, fit, schedule, watch=None, resume=None, **options):
    model = affine(2, 3, optimizer=Optimizer("sgd", 0.3), schedule=schedule)
    watch = watch or Rates()
    fit(model, torch.ones(29, 2), torch.arange(29) % 3, batch_size=6, resume=resume, callbacks=[watch], **options)
    return watch.rates


@pytest.mark.parametrize("schedule", [Schedule(), Schedule("cosine", 2, 0.1), Schedule("one_cycle")])
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
    ],
    ids=str,
)
def test_a_fit_follows_the_schedule_over_its_real_number_of_steps(affine, fit, schedule, options, steps):
    rates = rates_of_a_fit(affine, fit, schedule, **options)
    assert rates == [pytest.approx([0.3 * factor]) for factor in factors(schedule, 0, steps)]


@pytest.mark.parametrize("step", [5, 8])
def test_a_resumed_fit_goes_on_in_the_schedule(affine, fit, tmp_path, step):
    schedule, path = Schedule("cosine", 2), tmp_path / "run.ckpt"
    whole = rates_of_a_fit(affine, fit, schedule, Rates(step, path), max_epochs=3)
    assert rates_of_a_fit(affine, fit, schedule, resume=path, max_epochs=3) == whole[step:]


@pytest.mark.parametrize("schedule", [Schedule(), Schedule("cosine")])
def test_a_run_without_an_end_needs_a_constant_rate(affine, fit, schedule):
    endless = {"max_epochs": -1, "max_time": {"seconds": 0.2}}
    x, y = torch.ones(4, 3), torch.zeros(4, dtype=torch.long)
    if schedule.is_constant:
        assert fit(affine(3, 2, schedule=schedule), x, y, **endless).global_step > 0
    else:
        with pytest.raises(ValueError, match="schedule 'cosine' needs an end: say max_epochs or max_steps"):
            fit(affine(3, 2, schedule=schedule), x, y, **endless)
