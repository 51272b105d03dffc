"""What the optimizer makes of the gradient."""

import math
from statistics import fmean, median

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, WIDTH, adam, classes, ill, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients import GradientRecorder, Report
from unvanish.gradients.judge.rules import CLIPPING, GROWS, STILL_WEIGHTS, TOO_LARGE, TOO_SMALL, UPWARDS, ZERO_GRAD
from unvanish.gradients.judge.rules.clipping import LEFT, USUAL
from unvanish.gradients.judge.rules.steps import LEAP, STILL, THROWN
from unvanish.gradients.judge.rules.upwards import UP


@ill(UPWARDS)
def test_an_optimizer_that_maximizes():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model, maximize=True))
    found = [value for step in run.seen["descent"] for value in step.values()]
    assert max(found) < UP
    return run.end, f"the steps go along the gradient: their cosine with -dL/dW is {median(found):.2f}"


@ill(UPWARDS)
def test_a_loss_with_a_minus():
    model = mlp()
    run = trained(model, classes(), lambda z, y: -F.cross_entropy(z, y), sgd(model, 0.01))
    return run.end, f"the loss is {run.losses[-1]:.3g}, minus the cross-entropy"


@near(UPWARDS)
def test_momentum_that_turns_around():
    model = mlp(1)
    run = trained(model, numbers(), F.mse_loss, sgd(model, 0.02, momentum=0.95), 100)
    assert any(value < UP for step in run.seen["descent"] for value in step.values())
    return run.end


@ill(ZERO_GRAD)
def test_a_loop_that_never_sets_gradients_to_zero():
    model = mlp()
    steps = 20
    run = trained(model, classes(), F.cross_entropy, sgd(model, 0.01), steps, forget=False)
    known = min(run.report.window, steps - 1)
    (name,) = run.report.last[-1].values["gradient_left"]  # one layer tells of all
    return run.end, f"at {known} of {known} steps dL/dW of {name} was not 0 before the backward pass"


@pytest.mark.slow
@near(ZERO_GRAD)
def test_micro_batches_whose_gradients_are_accumulated():
    model = mlp()
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80, micro_batches=4).end


def clipped(model):
    """What clips to a norm of a ten-thousandth."""
    return lambda step: nn.utils.clip_grad_norm_(model.parameters(), 1e-4)


@ill(CLIPPING)
def test_a_bound_far_below_the_gradient_s_norm():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model), prepare=clipped(model))
    before, after = run.medians("norm")[""], run.medians("clipped")[""]
    assert after / before < LEFT
    assert median(run.medians("moved").values()) < USUAL
    share = median(a[""] / b[""] for a, b in zip(run.seen["clipped"][-10:], run.seen["norm"][-10:], strict=True))
    return run.end, (
        f"clipping removes {1 - share:.1%} of the gradient: its norm is {before:.2g} before and {after:.2g} after"
    )


@near(CLIPPING)
def test_adam_whose_steps_do_not_depend_on_the_gradient_s_size():
    model = mlp()
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80, prepare=clipped(model)).end


@near(ZERO_GRAD)
def test_what_another_loss_has_left_of_an_adversary_s_gradient():
    x, y = classes()
    model = nn.ModuleDict({"maker": mlp(x.shape[1]), "judge": mlp()})
    optimizers = [adam(model[name], 0.03) for name in model]
    report = Report()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(160):
            optimizer = optimizers[step % 2]
            optimizer.zero_grad()
            made = model["maker"](x)
            # The judge learns from what is made and from what is not, one after the other.
            for shown in [made] if step % 2 == 0 else [made.detach(), x]:
                loss = F.cross_entropy(model["judge"](shown), y)
                recorder.before_backward(loss)
                loss.backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step(optimizer)
        report.add(recorder.flush())
    left = [record.values.get("gradient_left") for record in report.last]
    assert any(left)
    return report.end


@ill(STILL_WEIGHTS)
def test_a_layer_that_was_put_in_after_the_optimizer_was_made():
    model = mlp()
    optimizer = sgd(model)
    model[2] = nn.Linear(model[2].in_features, model[2].out_features)
    report = Report()
    x, y = classes()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(20):
            model.zero_grad()
            loss = F.cross_entropy(model(x), y)
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step(optimizer)
        report.add(recorder.flush())
    return report.end, "1 of 2 layers get a gradient and never change: 2"


@near(STILL_WEIGHTS)
def test_a_frozen_layer_whose_gradient_is_of_a_time_before():
    model = mlp()
    x, y = classes()
    F.cross_entropy(model(x), y).backward()
    model[0].requires_grad_(False)
    return trained(model, (x, y), F.cross_entropy, adam(model[2], 0.1), 200).end


@ill(STILL_WEIGHTS)
def test_gradients_that_are_thrown_away_before_the_step():
    model = mlp()
    optimizer = sgd(model)
    report = Report()
    x, y = noise()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(120):
            loss = F.cross_entropy(model(x), y)
            recorder.before_backward(loss)
            loss.backward()
            optimizer.zero_grad()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step(optimizer)
        report.add(recorder.flush())
    return report.end, "dL/dz reaches all layers, and dL/dW is gone before the step"


@ill(STILL_WEIGHTS)
def test_a_learning_rate_of_0():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model, 0.0))
    assert not any(run.medians("moved").values())
    return run.end, "all 2 layers get a gradient, and none has changed, with a learning rate of 0"


@near(STILL_WEIGHTS)
def test_a_schedule_that_begins_at_0():
    model = mlp()
    optimizer = sgd(model, 0.5)

    def follow(step):
        optimizer.param_groups[0]["lr"] = 0.5 * min(step / 20, 1)

    run = trained(model, classes(), F.cross_entropy, optimizer, 150, prepare=follow)
    assert not any(run.seen["moved"][0].values())
    return run.end


@ill(TOO_SMALL)
def test_a_learning_rate_of_a_millionth():
    model = mlp()
    run = trained(model, noise(), F.cross_entropy, sgd(model, 1e-6), 40)
    moved = fmean(median(step.values()) for step in run.seen["moved"][:-1])
    assert moved * 40 < STILL
    evidence = f"40 steps have moved the weights by {100 * moved * 40:.1g} % of their norm at most"
    assert "a higher learning rate, such as 1e-05 in place of 1e-06" in str(run.end)
    return run.end, evidence


@ill(TOO_SMALL)
def test_a_schedule_by_the_epoch_that_is_stepped_at_every_step():
    model = mlp()
    optimizer = sgd(model, 0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    run = trained(model, noise(), F.cross_entropy, optimizer, 150, prepare=lambda step: step and schedule.step())
    assert median(run.seen["moved"][0].values()) * 150 > STILL  # what it would have come to without the schedule
    moved = fmean(median(step.values()) for step in run.seen["moved"][:-1])
    told = f"150 steps have moved the weights by {100 * moved * 150:.1g} % of their norm at most"
    assert "a schedule that decays per epoch and not per step" in str(run.end)
    return run.end, f"{told}, as the learning rate has fallen from 0.01 to {0.01 * 0.8**149:.1g}"


@near(TOO_SMALL)
def test_a_cosine_to_0_in_the_end():
    model = mlp()
    optimizer = adam(model, 0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    return trained(model, classes(), F.cross_entropy, optimizer, 100, prepare=lambda step: step and schedule.step()).end


@near(TOO_LARGE)
def test_a_short_run_whose_loss_began_high():
    x, y = classes()
    model = mlp()
    with torch.no_grad():
        model[2].bias += torch.tensor([60.0, 0, 0])
    run = trained(model, (x, y), F.cross_entropy, adam(model, 0.3), 60)
    assert fmean(run.losses) > 2 * math.log(3)  # of all steps; in the end it is right
    return run.end


@near(TOO_SMALL)
def test_the_first_steps_of_a_warmup():
    model = mlp()
    optimizer = adam(model, 1e-5)

    def follow(step):
        optimizer.param_groups[0]["lr"] = 1e-6 * (step + 1)

    return trained(model, classes(), F.cross_entropy, optimizer, 10, prepare=follow).end


@ill(TOO_LARGE)
def test_a_first_step_that_is_longer_than_the_weights():
    model = nn.Sequential(*mlp()[:2], nn.Linear(WIDTH, CLASSES))
    optimizer = adam(model, 3.0)

    def slow_down(step):
        optimizer.param_groups[0]["lr"] = 3.0 if step < 2 else 0.001

    run = trained(model, noise(), F.cross_entropy, optimizer, 110, prepare=slow_down)
    leap = median(run.seen["moved"][0].values())
    higher = max(run.losses[:10]) / run.losses[0]
    assert leap > 1
    assert higher > LEAP
    return run.end, f"the first steps made the loss {higher:.2g} times as large, and the weights {leap:.2g} times"


@ill(TOO_LARGE)
def test_steps_of_a_fifth_of_the_weights():
    model = mlp(activation=nn.Tanh)
    run = trained(model, noise(), F.cross_entropy, adam(model, 0.5), 12)
    moved = median(run.medians("moved").values())
    assert moved > THROWN
    return run.end, f"a step moves the weights by {100 * moved:.2g} % of their norm"


@near(TOO_LARGE)
def test_adam_s_first_steps_on_weights_near_0():
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(0.01)
    run = trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80)
    assert run.seen["moved"][0]["2"] > 5 * THROWN
    return run.end


@ill(GROWS)
def test_a_line_with_a_learning_rate_above_two_over_the_curvature():
    x, y = numbers()
    model = nn.Linear(5, 1)
    curvature = torch.linalg.eigvalsh(2 * x.T @ x / len(x)).max().item()
    run = trained(model, (x, y), F.mse_loss, sgd(model, 2.2 / curvature), 40)
    assert fmean(run.losses) > 2 * max(run.losses[:10])
    return run.end, f"the loss has grown from {fmean(run.losses[:10]):.3g} to {fmean(run.losses):.3g}"


@pytest.mark.slow
@near(GROWS)
def test_a_spike_of_a_few_steps():
    x, y = classes()
    model = mlp()

    def data(step):
        return (x, y) if step not in (40, 41) else (100 * x, (y + 1) % CLASSES)

    run = trained(model, data, F.cross_entropy, adam(model, 0.01), 200)
    assert max(run.losses) > 10 * max(run.losses[:10])
    return run.end
