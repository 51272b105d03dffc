"""Data of a size that nothing was made for, and numbers that are none."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, adam, classes, ill, mlp, near, noise, numbers, sgd, trained

import unvanish
from unvanish.gradients import GradientRecorder, Report
from unvanish.gradients.judge.rules import ALIKE_INPUTS, INPUTS, NAN, TARGETS
from unvanish.gradients.judge.rules.scaling import LARGE


def of_inputs(x):
    rms = x.square().mean().sqrt()
    return f"the data fed to 0 range from {x.min():.4g} to {x.max():.4g}, with a root mean square of {rms:.3g}"


@ill(INPUTS)
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh])
def test_inputs_in_thousands_that_saturate(activation):
    x, y = classes()
    model = mlp(activation=activation)
    run = trained(model, (1000 * x, y), F.cross_entropy, sgd(model, 0.01), 12)
    return run.end, of_inputs(1000 * x)


@ill(INPUTS)
def test_inputs_in_thousands_before_any_training():
    x, y = classes()
    return unvanish.diagnose(mlp(), (1000 * x, y), F.cross_entropy).verdict, of_inputs(1000 * x)


@ill(INPUTS)
def test_pixels_from_0_to_255_in_the_first_steps():
    x, y = classes()
    x = 255 * (x - x.min()) / (x.max() - x.min())
    model = mlp()
    run = trained(model, (x, y), F.cross_entropy, adam(model, 0.01), 10)
    assert run.losses[0] > 3 * math.log(CLASSES)
    return run.end, of_inputs(x)


@near(INPUTS)
def test_pixels_from_0_to_255_of_which_a_network_has_learnt():
    x, y = classes()
    x = 255 * (x - x.min()) / (x.max() - x.min())
    model = mlp()
    return trained(model, (x, y), F.cross_entropy, adam(model, 0.01), 200).end


@pytest.mark.slow
@ill(INPUTS)
def test_inputs_that_were_divided_by_255_twice():
    x, y = classes()
    model = mlp()
    run = trained(model, (x / 255, y), F.cross_entropy, sgd(model, 0.02), 200)
    return run.end, f"the data fed to 0 have a root mean square of {(x / 255).square().mean().sqrt():.2g}"


@pytest.mark.slow
@near(INPUTS)
def test_inputs_of_a_hundredth():
    x, y = classes()
    model = mlp()
    return trained(model, (x / 100, y), F.cross_entropy, adam(model, 0.1), 200).end


@pytest.mark.slow
@ill(ALIKE_INPUTS)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_inputs_that_are_the_same_for_every_sample(value):
    x, y = classes()
    model = mlp()
    run = trained(model, (torch.full_like(x, value), y), F.cross_entropy, adam(model), 120)
    rows = f"all {10 * len(x)} rows that 0 was fed in the first steps are alike"
    return run.end, f"{rows}, and their numbers are {'between 0.1 and 0.1' if value else '0'}"


@ill(ALIKE_INPUTS)
def test_words_that_are_all_unknown():
    _, y = noise()
    model = nn.Sequential(nn.EmbeddingBag(9, 7), nn.Linear(7, CLASSES))
    run = trained(model, (torch.ones(len(y), 4, dtype=torch.long), y), F.cross_entropy, adam(model), 120)
    return run.end, "what 0 returns is the same for all samples of a batch"


@near(ALIKE_INPUTS)
def test_inputs_of_which_a_single_column_differs():
    x, y = numbers()
    x = torch.cat([torch.ones_like(x[:, 1:]), y], 1)
    model = mlp(1)
    return trained(model, (x, 2 * y), F.mse_loss, adam(model, 0.03), 110).end


@ill(NAN)
def test_a_network_of_exponentials_that_training_has_driven_beyond_all_numbers():
    class Exp(nn.Module):
        def forward(self, z):
            return z.exp()

    model = mlp(hidden=2, activation=Exp)
    run = trained(model, noise(), F.cross_entropy, sgd(model, 1.0), 40)
    broken = next(i for i, loss in enumerate(run.losses) if not math.isfinite(loss))
    assert broken > 0
    (finding,) = [finding for finding in run.end.findings if finding.name == NAN.name]
    assert "activation" in finding.about
    assert "ReLU or tanh in place of exp" in finding.remedies
    return run.end, finding.evidence


@ill(NAN)
def test_targets_that_are_all_ignored():
    x, y = classes()
    model = mlp()
    run = trained(model, (x, torch.full_like(y, -100)), F.cross_entropy, sgd(model))
    return run.end, "the loss is nan, and all of the targets are ignored"


@near(INPUTS)
def test_pixels_from_0_to_16():
    x = 16 * torch.rand(64, COLUMNS, generator=torch.Generator().manual_seed(1))
    assert 0.8 * LARGE < x.square().mean().sqrt() < LARGE
    model = mlp()
    return trained(model, (x, x[:, :CLASSES].argmax(1)), F.cross_entropy, adam(model, 0.02), 100).end


@ill(TARGETS)
def test_prices_before_any_training():
    x, y = numbers()
    y = 300_000 + 80_000 * y
    evidence = f"the targets have a mean of {y.mean():.4g} and a standard deviation of {y.std(correction=0):.3g}"
    return unvanish.diagnose(mlp(1), (x, y), F.mse_loss).verdict, evidence


@ill(TARGETS)
def test_targets_near_minus_2700_in_the_first_steps():
    x, y = numbers()
    y = 100 * y / y.std() - 2700
    model = mlp(1)
    run = trained(model, (x, y), F.mse_loss, adam(model, 0.01), 10)
    return run.end, f"the targets have a mean of {y.mean():.4g} and a standard deviation of {y.std(correction=0):.3g}"


@ill(TARGETS)
def test_prices_that_are_not_learnt():
    x, y = numbers()
    y = 300_000 + 80_000 * y
    model = mlp(1)
    run = trained(model, (x, y), F.mse_loss, adam(model, 0.001))
    assert run.loss() > y.var()
    return run.end, f"the targets have a mean of {y.mean():.4g} and a standard deviation of {y.std(correction=0):.3g}"


@pytest.mark.slow
@near(TARGETS)
def test_counts_up_to_20():
    x, y = numbers()
    y = (8 + 3 * y).round().clamp(0, 20)
    model = mlp(1)
    return trained(model, (x, y), F.mse_loss, adam(model, 0.05), 150).end


@ill(NAN)
def test_data_with_a_nan():
    x, y = classes()
    x[3, 1] = math.nan
    model = mlp()
    return trained(model, (x, y), F.cross_entropy, sgd(model), 3).end, (
        "the data that 0 was fed have NaN or infinity in them"
    )


@ill(NAN)
def test_targets_with_a_nan():
    x, y = numbers()
    y[3] = math.nan
    model = mlp(1)
    return trained(model, (x, y), F.mse_loss, sgd(model), 3).end, "the targets have NaN or infinity in them"


@ill(NAN)
def test_a_learning_rate_without_any_bound():
    (x, y), model = classes(), mlp()
    twin = copy.deepcopy(model)
    optimizer = sgd(twin, 1e30)
    F.cross_entropy(twin(x), y).backward()
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in twin.parameters())
    first = next(depth for depth in (0, 2) if not twin[: depth + 1](x).isfinite().all())
    run = trained(model, (x, y), F.cross_entropy, sgd(model, 1e30), 12)
    return run.end, f"the first output that is not finite is that of {first}"


@ill(NAN)
def test_a_step_to_infinity():
    model = mlp()
    run = trained(model, classes(), lambda z, y: 1e4 * F.cross_entropy(z, y), sgd(model, 1e38), 12)
    first = next(step for step in run.seen["weight"] if not math.isfinite(sum(step.values())))
    name = next(name for name, norm in first.items() if not math.isfinite(norm))
    return run.end, f"the weight of {name} is {first[name]}: an earlier step of the optimizer made it so"


@ill(NAN)
@pytest.mark.parametrize("steps", [1, 30])
def test_a_square_root_at_0(steps):
    x, y = numbers()
    model = mlp(1)

    def loss(z, y):
        return F.mse_loss((z * 0).sqrt() + z.detach(), y)

    run = trained(model, (x, y), loss, sgd(model), steps)
    assert math.isfinite(run.losses[0])
    evidence = f"the gradient is nan in 2 while the loss is {run.losses[0]:.3g}: it arose in the backward pass"
    return run.end, evidence


@ill(NAN)
def test_activations_that_grow_beyond_the_largest_number():
    model = mlp(hidden=4, gain=1e12)
    x, y = classes()
    with torch.no_grad():
        sound = [model[:depth](x).isfinite().all().item() for depth in range(1, len(model) + 1)]
    first = sound.index(False)
    run = trained(model, (x, y), F.cross_entropy, sgd(model), 3)
    return run.end, f"the first output that is not finite is that of {first}, before the first step"


@pytest.mark.slow
@near(NAN)
def test_a_gradient_scaler_that_skips_what_overflows():
    x, y = classes()
    model = mlp()
    optimizer = adam(model, 0.03)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    report, skipped = Report(), 0
    with GradientRecorder(model, every_n_steps=1) as recorder:
        recorder.optimizes(optimizer)
        for step in range(140):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, reduction="sum")
            recorder.before_backward(loss)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scale = scaler.get_scale()
            recorder.before_step(step, loss_scale=scale, loss=loss)
            scaler.step(optimizer)
            scaler.update()
            recorder.after_step(optimizer)
            skipped += scaler.get_scale() < scale
    report.add(recorder.flush())
    assert skipped
    return report.end
