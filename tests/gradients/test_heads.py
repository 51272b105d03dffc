"""What a loss compares, read from autograd's graph: on every loss of torch.nn, and on some written by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import loss as losses

from unvanish.gradients import GradientRecorder

ROWS, COLUMNS, CLASSES, PIXELS = 13, 5, 3, 7


def heads_of(model, x, loss, known=True):
    """The loss, and what was read of it; ``known``: before it was differentiated."""
    with GradientRecorder(model) as recorder:
        value = loss(model(x))
        if known:
            recorder.before_backward(value)
        value.backward()
        recorder.before_step(0, loss=value)
        (record,) = recorder.flush()
    assert recorder.notes == []
    return value.item(), record.heads


def x_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def labels(*shape):
    return torch.randint(CLASSES, shape, generator=torch.Generator().manual_seed(2))


def dense(outputs=CLASSES, *end):
    return nn.Sequential(nn.Linear(COLUMNS, 11), nn.ReLU(), nn.Linear(11, outputs), *end)


def frequencies(y):
    return pytest.approx((torch.bincount(y.flatten(), minlength=CLASSES) / y.numel()).tolist())


# The cross-entropy

MASKED = torch.where(torch.arange(ROWS) % 4 == 0, -100, labels(ROWS))
CROSS_ENTROPIES = {
    "classes": (dense(), labels(ROWS), F.cross_entropy),
    "log-softmax": (dense(CLASSES, nn.LogSoftmax(1)), labels(ROWS), F.nll_loss),
    "log of softmax": (dense(CLASSES, nn.Softmax(1)), labels(ROWS), lambda p, y: F.nll_loss(p.log(), y)),
    "ignored ones": (dense(), MASKED, F.cross_entropy),
    "sum": (dense(), labels(ROWS), lambda z, y: F.cross_entropy(z, y, reduction="sum") / ROWS),
    "mean of each": (dense(), labels(ROWS), lambda z, y: F.cross_entropy(z, y, reduction="none").mean()),
    "one-hot": (dense(), labels(ROWS), lambda z, y: F.cross_entropy(z, F.one_hot(y, CLASSES).float())),
    "by hand, one-hot": (
        dense(),
        labels(ROWS),
        lambda z, y: -(F.one_hot(y, CLASSES) * z.log_softmax(1)).sum(1).mean(),
    ),
    "by hand, probabilities": (
        dense(CLASSES, nn.Softmax(1)),
        labels(ROWS),
        lambda p, y: -(F.one_hot(y, CLASSES) * p.log()).sum(1).mean(),
    ),
    "as Keras has it": (
        dense(CLASSES, nn.Softmax(1)),
        labels(ROWS),
        lambda p, y: -(F.one_hot(y, CLASSES) * (p / p.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7).log()).sum(1).mean(),
    ),
}


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
def test_a_cross_entropy_its_value_and_its_classes(name):
    model, y, loss = CROSS_ENTROPIES[name]
    value, (head,) = heads_of(model, x_of(ROWS, COLUMNS), lambda z: loss(z, y))
    assert (head.loss, head.layer, head.prediction, head.output) == ("cross-entropy", "2", (ROWS, CLASSES), (13, 3))
    assert head.value == pytest.approx(value, rel=1e-5)
    meant = y[y >= 0]
    assert head.target.count == len(meant)
    assert head.target.is_one_hot
    assert head.target.frequencies == frequencies(meant)


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
def test_what_lies_between_a_cross_entropy_and_the_network(name):
    model, y, loss = CROSS_ENTROPIES[name]
    _, (head,) = heads_of(model, x_of(ROWS, COLUMNS), lambda z: loss(z, y))
    squashed = len(model) > 3 and isinstance(model[3], nn.Softmax)
    assert ("Softmax" in head.path) == squashed
    assert head.softmax_axis == ((CLASSES,) if squashed else ())
    assert head.is_logits == (not squashed)


def test_a_loss_that_was_differentiated_already_tells_its_structure_and_no_numbers():
    y = labels(ROWS)
    _, (head,) = heads_of(dense(), x_of(ROWS, COLUMNS), lambda z: F.cross_entropy(z, y), known=False)
    assert (head.loss, head.layer, head.is_logits) == ("cross-entropy", "2", True)
    assert math.isnan(head.value)
    assert head.target is None


def test_smoothed_labels_add_to_the_cross_entropy_s_own_value():
    y = labels(ROWS)
    model, x = dense(), x_of(ROWS, COLUMNS)
    _, heads = heads_of(model, x, lambda z: F.cross_entropy(z, y, label_smoothing=0.1))
    (head,) = [head for head in heads if head.target is not None and head.target.is_one_hot]
    assert head.value == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)
    assert head.target.frequencies == frequencies(y)


@pytest.mark.parametrize("ignored", [0, 2, -1])
def test_an_ignored_class_counts_neither_in_the_value_nor_among_the_targets(ignored):
    y = labels(ROWS)
    y[::3] = ignored
    value, (head,) = heads_of(dense(), x_of(ROWS, COLUMNS), lambda z: F.cross_entropy(z, y, ignore_index=ignored))
    meant = y[y != ignored]
    assert 0 < len(meant) < ROWS
    assert head.value == pytest.approx(value, rel=1e-5)
    assert head.target.count == len(meant)
    assert head.target.frequencies == frequencies(meant)


def test_a_focal_loss_is_one_loss():
    y = labels(ROWS)

    def focal(z):
        losses = F.cross_entropy(z, y, reduction="none")
        return ((1 - (-losses).exp()) ** 2 * losses).mean()

    _, heads = heads_of(dense(), x_of(ROWS, COLUMNS), focal)
    assert [head.loss for head in heads] == ["cross-entropy"]


def test_of_weighted_classes_the_value_is_left_out_and_the_frequencies_are_the_samples():
    y = labels(ROWS)
    weight = torch.tensor([0.2, 3.0, 1.0])
    _, (head,) = heads_of(dense(), x_of(ROWS, COLUMNS), lambda z: F.cross_entropy(z, y, weight))
    assert math.isnan(head.value)
    assert head.target.frequencies == frequencies(y)


@pytest.mark.parametrize("shape", [(ROWS, PIXELS), (ROWS, PIXELS, 2)], ids=["tokens", "pixels"])
def test_a_cross_entropy_over_positions(shape):
    y = labels(*shape)
    y.view(-1)[::5] = -100
    kind = nn.Conv1d if len(shape) == 2 else nn.Conv2d
    model = nn.Sequential(kind(COLUMNS, 11, 1), nn.ReLU(), kind(11, CLASSES, 1))
    value, (head,) = heads_of(model, x_of(ROWS, COLUMNS, *shape[1:]), lambda z: F.cross_entropy(z, y))
    assert (head.loss, head.layer) == ("cross-entropy", "2")
    assert head.value == pytest.approx(value, rel=1e-5)
    assert head.target.count == (y >= 0).sum()
    assert head.target.frequencies == frequencies(y[y >= 0])


# The binary cross-entropy


def bernoulli(p, y):
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


BINARY = {
    "probabilities": (dense(1, nn.Sigmoid()), F.binary_cross_entropy, False),
    "logits": (dense(1), F.binary_cross_entropy_with_logits, True),
    "by hand": (dense(1, nn.Sigmoid()), bernoulli, False),
    "as Keras has it": (dense(1, nn.Sigmoid()), lambda p, y: bernoulli(p.clamp(1e-7, 1 - 1e-7), y), False),
    "sum": (
        dense(1, nn.Sigmoid()),
        lambda p, y: F.binary_cross_entropy(p, y, reduction="sum") / ROWS,
        False,
    ),
}


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_cross_entropy_its_value_and_its_labels(name):
    model, loss, is_logits = BINARY[name]
    y = (x_of(ROWS, 1) > 0.3).float()
    value, (head,) = heads_of(model, x_of(ROWS, COLUMNS), lambda z: loss(z, y))
    assert (head.loss, head.layer, head.is_logits) == ("binary cross-entropy", "2", is_logits)
    assert ("Sigmoid" in head.path) == (not is_logits)
    assert head.value == pytest.approx(value, rel=1e-5)
    assert head.target.is_labels
    assert head.target.frequencies == pytest.approx([1 - y.mean().item(), y.mean().item()])


# Errors

ERRORS = {
    "mse_loss": (F.mse_loss, "squared error", F.mse_loss),
    "(p - y) ** 2": (lambda p, y: ((p - y) ** 2).mean(), "squared error", F.mse_loss),
    "(y - p) ** 2": (lambda p, y: ((y - p) ** 2).mean(), "squared error", F.mse_loss),
    "square": (lambda p, y: (p - y).square().mean(), "squared error", F.mse_loss),
    "product": (lambda p, y: ((p - y) * (p - y)).mean(), "squared error", F.mse_loss),
    "half": (lambda p, y: 0.5 * (p - y).pow(2).sum() / len(y), "squared error", F.mse_loss),
    "root": (lambda p, y: F.mse_loss(p, y).sqrt(), "squared error", F.mse_loss),
    "l1_loss": (F.l1_loss, "absolute error", F.l1_loss),
    "abs": (lambda p, y: (p - y).abs().mean(), "absolute error", F.l1_loss),
    "smooth_l1_loss": (F.smooth_l1_loss, "absolute error", F.l1_loss),
    "huber_loss": (F.huber_loss, "absolute error", F.l1_loss),
}


@pytest.mark.parametrize("end", [(), (nn.Sigmoid(),), (nn.Tanh(),), (nn.ReLU(),)], ids=lambda end: str(end[0:1]))
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_its_value_and_its_targets(name, end):
    loss, kind, mean = ERRORS[name]
    model, x, y = dense(1, *end), x_of(ROWS, COLUMNS), 2 + 3 * x_of(ROWS, 1)
    _, (head,) = heads_of(model, x, lambda p: loss(p, y))
    assert (head.loss, head.layer, head.is_logits) == (kind, "2", False)
    assert [name for name in head.path if name in ("Sigmoid", "Tanh", "Relu")] == [
        {"Sigmoid": "Sigmoid", "Tanh": "Tanh", "ReLU": "Relu"}[type(one).__name__] for one in end
    ]
    assert head.value == pytest.approx(mean(model(x), y).item(), rel=1e-5)
    assert head.target.mean == pytest.approx(y.mean().item(), rel=1e-4)
    assert head.target.std == pytest.approx(y.std(correction=0).item(), rel=1e-4)
    assert (head.target.smallest, head.target.largest) == pytest.approx((y.min().item(), y.max().item()), rel=1e-4)


def test_bounds_that_differ_from_number_to_number_are_not_known():
    end = nn.Identity()
    end.forward = lambda z: z.clamp(torch.zeros(ROWS, 1), torch.ones(ROWS, 1))
    _, (head,) = heads_of(dense(1, end), x_of(ROWS, COLUMNS), lambda p: F.mse_loss(p, x_of(ROWS, 1)))
    assert "Clamp" in head.path
    assert head.bounds == (-math.inf, math.inf)


def test_targets_of_a_hand_written_error_are_whole_again():
    y = labels(ROWS).unsqueeze(-1)
    _, (head,) = heads_of(dense(1), x_of(ROWS, COLUMNS), lambda p: ((p - y) ** 2).mean())
    assert (head.target.smallest, head.target.largest) == (0, CLASSES - 1)
    assert head.target.sums == (y.sum().item(),)


def test_a_prediction_without_its_column_is_compared_as_it_is():
    y = x_of(ROWS)
    value, (head,) = heads_of(dense(1), x_of(ROWS, COLUMNS), lambda p: ((p.squeeze(-1) - y) ** 2).mean())
    assert head.prediction == (ROWS,)
    assert head.value == pytest.approx(value, rel=1e-5)


def test_a_penalty_is_no_part_of_the_value():
    model, y = dense(), labels(ROWS)

    def loss(z):
        return F.cross_entropy(z, y) + 0.1 * sum(p.square().sum() for p in model.parameters())

    value, (head,) = heads_of(model, x_of(ROWS, COLUMNS), loss)
    assert head.value == pytest.approx(F.cross_entropy(model(x_of(ROWS, COLUMNS)), y).item(), rel=1e-5)
    assert head.value < value


def test_a_loss_that_is_a_sum_of_several_has_a_head_for_each():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(COLUMNS, 7), nn.Linear(7, CLASSES), nn.Linear(7, 1)

        def forward(self, x):
            h = self.a(x).tanh()
            return self.b(h), self.c(h)

    y, number = labels(ROWS), x_of(ROWS, 1)
    value, heads = heads_of(
        Two(), x_of(ROWS, COLUMNS), lambda both: F.cross_entropy(both[0], y) + 2 * F.mse_loss(both[1], number)
    )
    found = {head.layer: head for head in heads}
    assert {layer: head.loss for layer, head in found.items()} == {"b": "cross-entropy", "c": "squared error"}
    assert found["b"].value + 2 * found["c"].value == pytest.approx(value, rel=1e-5)
    assert found["c"].target.mean == pytest.approx(number.mean().item(), rel=1e-4)


def test_the_logarithm_of_a_variance_is_no_cross_entropy_and_a_difference_times_a_sign_no_square():
    y, signs = x_of(ROWS, 1), SIGNS
    for known in (True, False):
        _, heads = heads_of(
            dense(2), x_of(ROWS, COLUMNS), lambda z: F.gaussian_nll_loss(z[:, :1], y, z[:, 1:].exp()), known
        )
        assert {head.loss for head in heads} == {"squared error", ""}
    _, heads = heads_of(dense(2), x_of(ROWS, COLUMNS), lambda z: (signs * (z[:, 0] - z[:, 1])).relu().mean())
    assert {head.loss for head in heads} == {""}


# All of torch.nn, and others: nothing is noted as a failure, nothing raises


def vectors(*options):
    return lambda module, z: module(z, *options)


Y = labels(ROWS)
SIGNS = (2 * (labels(ROWS) > 0) - 1).float()
OF_TORCH = {
    "AdaptiveLogSoftmaxWithLoss": lambda _, z: z.square().mean(),  # a layer of its own
    "BCELoss": lambda module, z: module(z.sigmoid(), F.one_hot(Y, CLASSES).float()),
    "BCEWithLogitsLoss": vectors(F.one_hot(Y, CLASSES).float()),
    "CTCLoss": lambda module, z: module(
        z.log_softmax(-1).unsqueeze(1), torch.tensor([[1, 2, 1]]), torch.tensor([ROWS]), torch.tensor([3])
    ),
    "CosineEmbeddingLoss": vectors(x_of(ROWS, CLASSES), SIGNS),
    "CrossEntropyLoss": vectors(Y),
    "GaussianNLLLoss": lambda module, z: module(z[:, :1], x_of(ROWS, 1), z[:, 1:2].exp()),
    "HingeEmbeddingLoss": lambda module, z: module(z[:, 0], SIGNS),
    "HuberLoss": vectors(x_of(ROWS, CLASSES)),
    "KLDivLoss": lambda module, z: module(z.log_softmax(-1), x_of(ROWS, CLASSES).softmax(-1)),
    "L1Loss": vectors(x_of(ROWS, CLASSES)),
    "LinearCrossEntropyLoss": lambda _, z: z.square().mean(),  # a layer of its own
    "MSELoss": vectors(x_of(ROWS, CLASSES)),
    "MarginRankingLoss": lambda module, z: module(z[:, 0], z[:, 1], SIGNS),
    "MultiLabelMarginLoss": vectors(torch.cat([Y.unsqueeze(-1), torch.full((ROWS, 2), -1)], 1)),
    "MultiLabelSoftMarginLoss": vectors(F.one_hot(Y, CLASSES).float()),
    "MultiMarginLoss": vectors(Y),
    "NLLLoss": lambda module, z: module(z.log_softmax(-1), Y),
    "PoissonNLLLoss": vectors(x_of(ROWS, CLASSES).abs()),
    "SmoothL1Loss": vectors(x_of(ROWS, CLASSES)),
    "SoftMarginLoss": vectors(2.0 * F.one_hot(Y, CLASSES) - 1),
    "TripletMarginLoss": vectors(x_of(ROWS, CLASSES), x_of(ROWS, CLASSES) + 1),
    "TripletMarginWithDistanceLoss": vectors(x_of(ROWS, CLASSES), x_of(ROWS, CLASSES) + 1),
}
ALL = [name for name in losses.__all__ if hasattr(nn, name) and name != "NLLLoss2d"]  # an old name of NLLLoss
OPTIONS = {"KLDivLoss": {"reduction": "batchmean"}}
OTHERS = {
    "dice": lambda z: 1 - 2 * (z.sigmoid() * F.one_hot(Y, CLASSES)).sum() / (z.sigmoid().sum() + ROWS),
    "focal": lambda z: ((1 - z.softmax(1).gather(1, Y[:, None])) ** 2 * F.cross_entropy(z, Y, reduction="none")).mean(),
    "policy gradient": lambda z: -(z.log_softmax(1)[range(ROWS), Y] * x_of(ROWS)).mean(),
    "contrastive": lambda z: F.cross_entropy(F.normalize(z) @ F.normalize(z).T / 0.1, torch.arange(ROWS)),
    "hinge of adversaries": lambda z: (1 - z).relu().mean() + (1 + z).relu().mean(),
    "the mean": lambda z: z.mean(),
    "the largest": lambda z: z.max(),
    "evidence lower bound": lambda z: (
        F.mse_loss(z, x_of(ROWS, CLASSES)) - 0.5 * (1 + z - z.square() - z.exp()).sum(1).mean()
    ),
    "complex": lambda z: torch.fft.fft(z).abs().square().mean(),
}


def test_no_loss_of_torch_is_left_out():
    assert set(ALL) <= set(OF_TORCH)
    assert len(ALL) > 20


@pytest.mark.parametrize("name", ALL)
def test_no_loss_of_torch_is_one_too_many(name):
    module = (
        None
        if name in ("AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss")
        else getattr(nn, name)(**OPTIONS.get(name, {}))
    )
    value, heads = heads_of(dense(), x_of(ROWS, COLUMNS), lambda z: OF_TORCH[name](module, z))
    assert math.isfinite(value)
    for head in heads:
        assert head.layer == "2"


@pytest.mark.parametrize("name", OTHERS)
def test_no_loss_that_was_written_by_hand_is_one_too_many(name):
    value, heads = heads_of(dense(), x_of(ROWS, COLUMNS), OTHERS[name])
    assert math.isfinite(value)
    for head in heads:
        assert head.layer == ("" if name == "contrastive" else "2")  # a product of samples is no layer's output
