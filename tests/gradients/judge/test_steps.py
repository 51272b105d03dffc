"""What the optimizer makes of the gradient."""

from statistics import fmean, median

import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, adam, classes, ill, mlp, near, noise, numbers, sgd, trained

from unvanish.gradients.judge.rules import CLIPPING, GROWS, STILL_WEIGHTS, TOO_LARGE, TOO_SMALL, UPWARDS, ZERO_GRAD
from unvanish.gradients.judge.rules.clipping import LEFT, USUAL
from unvanish.gradients.judge.rules.steps import STILL, THROWN
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


@ill(STILL_WEIGHTS)
def test_a_learning_rate_of_0():
    model = mlp()
    run = trained(model, classes(), F.cross_entropy, sgd(model, 0.0))
    assert not any(run.medians("moved").values())
    return run.end, "all 2 layers have a gradient, and none has moved, with a learning rate of 0"


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
    moved = max(median(run.medians("moved").values()), median(run.first("moved").values()))
    assert moved * 40 < STILL
    evidence = f"a step changes the weights by {moved:.1g} of themselves, 40 steps by {moved * 40:.1g} at most"
    assert "a higher learning rate, such as 1e-05 in place of 1e-06" in str(run.end)
    return run.end, evidence


@near(TOO_SMALL)
def test_the_first_steps_of_a_warmup():
    model = mlp()
    optimizer = adam(model, 1e-5)

    def follow(step):
        optimizer.param_groups[0]["lr"] = 1e-6 * (step + 1)

    return trained(model, classes(), F.cross_entropy, optimizer, 10, prepare=follow).end


@ill(TOO_LARGE)
def test_steps_of_a_fifth_of_the_weights():
    model = mlp(activation=nn.Tanh)
    run = trained(model, noise(), F.cross_entropy, adam(model, 0.5), 12)
    moved = median(run.medians("moved").values())
    assert moved > THROWN
    return run.end, f"a step changes the weights by {moved:.2g} of themselves"


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


@near(GROWS)
def test_a_spike_of_a_few_steps():
    x, y = classes()
    model = mlp()

    def data(step):
        return (x, y) if step not in (40, 41) else (100 * x, (y + 1) % CLASSES)

    run = trained(model, data, F.cross_entropy, adam(model, 0.01), 200)
    assert max(run.losses) > 10 * max(run.losses[:10])
    return run.end
