"""What stands between the last layer and the loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, ROWS, adam, classes, ill, inputs, mlp, near, numbers, sgd, trained

from unvanish.gradients.judge.rules import (
    BATCH_SOFTMAX,
    BOUNDED_OUTPUT,
    NO_LOGARITHM,
    ONE_OUTPUT,
    SHAPES,
    SQUASHED_LOGITS,
)


def halves():
    """Two classes, as numbers 0 and 1, (rows, 1)."""
    x, number = numbers()
    return x, (number > 0).float()


@ill(ONE_OUTPUT)
def test_a_softmax_over_the_one_output_of_a_network():
    model = mlp(1, end=nn.Softmax(-1))
    run = trained(model, halves(), F.binary_cross_entropy, sgd(model))
    assert model(inputs()).unique().tolist() == [1.0]
    return run.end, "a softmax is over an axis of size 1, so it returns 1 whatever it is given"


@ill(ONE_OUTPUT)
def test_the_cross_entropy_over_one_class():
    model = mlp(1)
    run = trained(model, (inputs(), torch.zeros(ROWS, dtype=torch.long)), F.cross_entropy, sgd(model))
    assert run.losses == [0.0] * len(run.losses)
    return run.end, "the cross-entropy is over one class, whose probability is 1 whatever it is given"


class Attends(nn.Module):
    """Attention over one key: a row is a sequence of one."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(COLUMNS, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.leave = nn.Linear(8, CLASSES)

    def forward(self, x):
        h = self.enter(x).unsqueeze(1)
        return self.leave(h[:, 0] + self.attention(h, h, h)[0][:, 0])


@near(ONE_OUTPUT)
def test_attention_over_one_key():
    model = Attends()
    return trained(model, classes(), F.cross_entropy, adam(model), 60).end


@ill(SQUASHED_LOGITS)
@pytest.mark.parametrize(
    ("end", "name"),
    [(nn.Softmax(-1), "softmax"), (nn.Sigmoid(), "sigmoid"), (nn.Tanh(), "tanh")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cross_entropy_of_what_was_squashed(end, name):
    model = mlp(end=end)
    run = trained(model, classes(), F.cross_entropy, sgd(model))
    return run.end, f"the output of 2 goes through {name}, and then through the softmax of the cross-entropy"


@ill(SQUASHED_LOGITS)
def test_a_binary_cross_entropy_on_logits_of_what_was_squashed():
    model = mlp(1, end=nn.Sigmoid())
    run = trained(model, halves(), F.binary_cross_entropy_with_logits, sgd(model))
    return run.end, "the output of 2 goes through sigmoid, and then through the sigmoid of the binary cross-entropy"


@near(SQUASHED_LOGITS)
def test_a_softmax_and_the_negative_log_likelihood_of_its_logarithm():
    model = mlp(end=nn.Softmax(-1))
    return trained(model, classes(), lambda p, y: F.nll_loss(p.log(), y), adam(model, 0.03), 60).end


@near(SQUASHED_LOGITS)
@pytest.mark.parametrize("end", [nn.ReLU(), nn.LogSoftmax(-1)], ids=["relu", "log-softmax"])
def test_what_takes_nothing_from_the_cross_entropy(end):
    model = mlp(end=end)
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 60).end


def by_hand(axis):
    """The cross-entropy of a softmax over an axis, written out."""

    def loss(z, y):
        p = z.exp() / z.exp().sum(axis, keepdim=True)
        return -p.log()[torch.arange(len(y)), y].mean()

    return loss


@ill(BATCH_SOFTMAX)
@pytest.mark.parametrize("axis", [0, -2])
def test_a_softmax_over_the_samples_that_was_written_by_hand(axis):
    model = mlp()
    run = trained(model, classes(), by_hand(axis), sgd(model))
    return run.end, f"a softmax of 2 is over the first axis of {ROWS}x{CLASSES} numbers"


@near(BATCH_SOFTMAX)
def test_a_softmax_over_the_classes_that_was_written_by_hand():
    model = mlp()
    return trained(model, classes(), by_hand(1), adam(model, 0.03), 80).end


class Mapped(nn.Module):
    """A function at the end of a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z)


@near(SQUASHED_LOGITS)
def test_logits_that_are_capped():
    model = mlp(end=Mapped(lambda z: 30 * (z / 30).tanh()))
    return trained(model, classes(), F.cross_entropy, adam(model, 0.03), 80).end


@pytest.mark.slow
@near(BOUNDED_OUTPUT)
@pytest.mark.parametrize("is_by_hand", [False, True])
def test_a_tanh_that_is_multiplied_by_the_bound_of_the_targets(is_by_hand):
    x, y = numbers()
    model = mlp(1, end=Mapped(lambda z: 6 * z.tanh()))
    loss = (lambda p, y: (p - y).square().mean()) if is_by_hand else F.mse_loss
    run = trained(model, (x, y), loss, adam(model, 0.03), 100)
    assert y.abs().max() > 1
    return run.end


@ill(BOUNDED_OUTPUT)
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda z: z.clamp(-1, 2), "clamp on the output is between -1 and 2"),
        (lambda z: z.clamp(max=2), "clamp on the output is 2 at most"),
        (lambda z: z.clamp(min=-1), "clamp on the output is -1 at least"),
        (F.relu6, "ReLU6 on the output is between 0 and 6"),
        (F.hardtanh, "hardtanh on the output is between -1 and 1"),
        (F.hardsigmoid, "hardsigmoid on the output is between 0 and 1"),
    ],
    ids=["clamp", "at most", "at least", "relu6", "hardtanh", "hardsigmoid"],
)
def test_targets_beyond_what_the_output_was_cut_off_at(function, told):
    x, y = numbers()
    y = 3 * y
    run = trained(model := mlp(1, end=Mapped(function)), (x, y), F.mse_loss, sgd(model, 0.001))
    return run.end, f"the {told}, and the targets reach from {y.min():.3g} to {y.max():.3g}"


@ill(BOUNDED_OUTPUT)
def test_the_logarithm_of_a_relu():
    model = mlp(end=nn.ReLU())
    one_hot = F.one_hot(classes()[1], CLASSES)
    run = trained(model, classes(), lambda p, _: -(one_hot * (p + 1e-7).log()).sum(1).mean(), sgd(model, 0.001))
    return run.end, "the loss takes the logarithm of what a ReLU returns, which may be 0"


@ill(BATCH_SOFTMAX)
@pytest.mark.parametrize("dim", [0, -2])
def test_a_softmax_over_the_samples(dim):
    model = mlp()
    run = trained(model, classes(), lambda z, y: F.nll_loss(z.log_softmax(dim), y), sgd(model))
    return run.end, f"a softmax of 2 is over the first axis of {ROWS}x{CLASSES} numbers"


@near(BATCH_SOFTMAX)
def test_a_softmax_of_the_only_axis():
    model = mlp()
    (x, y) = classes(1)
    return trained(model, (x[0], y[0]), lambda z, t: -z.log_softmax(0)[t], sgd(model, 0.01)).end


@near(BATCH_SOFTMAX)
def test_a_softmax_over_the_classes():
    model = mlp()
    return trained(model, classes(), lambda z, y: F.nll_loss(z.log_softmax(-1), y), adam(model, 0.03), 60).end


@ill(NO_LOGARITHM)
@pytest.mark.parametrize(
    ("end", "what"), [(nn.Softmax(-1), "softmax"), (nn.Identity(), "output")], ids=["softmax", "logits"]
)
def test_a_negative_log_likelihood_of_what_is_no_logarithm(end, what):
    model = mlp(end=end)
    run = trained(model, classes(), F.nll_loss, sgd(model))
    lowest = min(loss for loss in run.losses if loss < 0)
    return run.end, f"the negative log-likelihood of the {what} of 2 is {lowest:.3g}, below 0"


def divergence(z, y):
    return F.kl_div(z, F.one_hot(y, CLASSES) * 0.7 + 0.1, reduction="batchmean")


@ill(NO_LOGARITHM)
def test_a_divergence_of_what_is_no_logarithm():
    model = mlp(end=nn.Softmax(-1))
    run = trained(model, classes(), divergence, sgd(model))
    return run.end, "the Kullback-Leibler divergence is given the softmax of 2 itself"


@near(NO_LOGARITHM)
def test_a_divergence_of_a_log_softmax():
    model = mlp(end=nn.LogSoftmax(-1))
    return trained(model, classes(), divergence, adam(model, 0.03), 60).end


@near(NO_LOGARITHM)
def test_the_mean_reward_of_a_softmax_s_choices():
    model = mlp(end=nn.Softmax(-1))
    return trained(
        model, classes(), lambda p, y: -(p * F.one_hot(y, CLASSES)).sum(-1).mean(), adam(model, 0.03), 60
    ).end


@near(NO_LOGARITHM)
def test_a_network_that_ends_in_log_softmax():
    model = mlp(end=nn.LogSoftmax(-1))
    return trained(model, classes(), F.nll_loss, adam(model, 0.03), 60).end


@near(SQUASHED_LOGITS)
def test_a_sigmoid_and_the_binary_cross_entropy():
    model = mlp(1, end=nn.Sigmoid())
    return trained(model, halves(), F.binary_cross_entropy, adam(model, 0.03), 60).end


@ill(SHAPES)
@pytest.mark.parametrize("flat", ["target", "prediction"])
def test_a_column_and_a_row_make_a_table(flat):
    x, y = numbers()
    model = mlp(1) if flat == "target" else nn.Sequential(*mlp(1), nn.Flatten(0))
    y = y.squeeze(-1) if flat == "target" else y
    run = trained(model, (x, y), lambda p, y: ((p - y) ** 2).mean(), sgd(model))
    assert (model(x) - y).shape == (ROWS, ROWS)
    return run.end, f"{ROWS} predictions and as many targets were compared as a table of {ROWS} x {ROWS}"


@ill(SHAPES)
@pytest.mark.parametrize("flat", ["target", "prediction"])
def test_a_column_and_a_row_make_a_table_in_a_binary_cross_entropy_by_hand(flat):
    x, y = halves()
    model = mlp(1, end=nn.Sigmoid()) if flat == "target" else nn.Sequential(*mlp(1), nn.Sigmoid(), nn.Flatten(0))
    y = y.squeeze(-1) if flat == "target" else y
    run = trained(model, (x, y), lambda p, y: -(y * p.log() + (1 - y) * (1 - p).log()).mean(), sgd(model))
    return run.end, f"{ROWS} predictions and as many targets were compared as a table of {ROWS} x {ROWS}"


@pytest.mark.slow
@near(SHAPES)
def test_a_loss_over_all_pairs_that_is_meant():
    model = mlp(7)
    x = inputs()
    likeness = F.normalize(x) @ F.normalize(x).T

    def loss(z, y):
        return F.mse_loss(F.normalize(z) @ F.normalize(z).T, y)

    return trained(model, (x, likeness), loss, adam(model, 0.03), 100).end


@ill(BOUNDED_OUTPUT)
@pytest.mark.parametrize(
    ("end", "name", "bounds"),
    [
        (nn.Sigmoid(), "sigmoid", "between 0 and 1"),
        (nn.Tanh(), "tanh", "between -1 and 1"),
        (nn.ReLU(), "ReLU", "never negative"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_targets_beyond_the_activation_of_the_output(end, name, bounds):
    x, y = numbers()
    model = mlp(1, end=end)
    with torch.no_grad():
        model[2].bias += 1  # so that no ReLU is silent
    run = trained(model, (x, y), F.mse_loss, sgd(model))
    reach = f"and the targets reach from {y.min():.3g} to {y.max():.3g}"
    return run.end, f"the {name} on the output is {bounds}, {reach}"


@ill(BOUNDED_OUTPUT)
def test_a_relu_on_the_output_that_is_silent():
    x, y = numbers()
    model = mlp(1, end=nn.ReLU())
    with torch.no_grad():
        model[2].bias -= 100
    run = trained(model, (x, y), F.mse_loss, sgd(model))
    assert not model(x).any()
    return run.end, "the ReLU on the output returns 0 for every sample"


@near(BOUNDED_OUTPUT)
def test_a_sigmoid_for_targets_between_0_and_1():
    x, y = numbers()
    model = mlp(1, end=nn.Sigmoid())
    return trained(model, (x, y.sigmoid()), F.mse_loss, adam(model, 0.03), 100).end


@pytest.mark.slow
@near(BOUNDED_OUTPUT)
def test_a_relu_for_counts():
    x, y = numbers()
    model = mlp(1, end=nn.ReLU())
    return trained(model, (x, (y + 4).round().relu()), F.mse_loss, adam(model, 0.03), 150).end
