"""Networks whose answers depend on the other samples of the batch."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, ill, near

import unvanish
from unvanish.gradients.judge.rules.mixed_samples import MIXED_SAMPLES

SAMPLES, LENGTH, WIDTH = 13, 7, 5


class Reads(nn.Module):
    """A GRU over sequences, whose last output is classified."""

    def __init__(self, batch_first):
        super().__init__()
        self.gru, self.out = nn.GRU(WIDTH, 11, batch_first=batch_first), nn.Linear(11, CLASSES)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1])


class Attends(nn.Module):
    """Attention with a class at each position, whose softmax runs over the given axis of (B, T, T) scores."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis
        self.key, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.out((self.key(x) @ x.transpose(1, 2)).softmax(self.axis) @ x)


def diagnosed(model, x=None, y=None):
    x = torch.randn(SAMPLES, LENGTH, WIDTH) if x is None else x
    y = torch.randint(CLASSES, (SAMPLES,)) if y is None else y
    return unvanish.diagnose(model, (x, y), lambda out, y: F.cross_entropy(out.flatten(0, -2), y.flatten())).verdict


@ill(MIXED_SAMPLES)
def test_a_recurrent_layer_that_takes_the_batch_for_time():
    # Row t of a sequence over the batch depends on the rows before it: the first one changes all others.
    changed = f"the answers to {SAMPLES - 1} of the other samples change as well"
    return diagnosed(Reads(batch_first=False)), f"with another first sample, {changed}"


@ill(MIXED_SAMPLES)
def test_attention_whose_softmax_is_over_the_batch():
    labels = torch.randint(CLASSES, (SAMPLES, LENGTH))
    changed = f"the answers to {SAMPLES - 1} of the other samples change as well"
    return diagnosed(Attends(0), y=labels), f"with another first sample, {changed}"


@near(MIXED_SAMPLES)
def test_batch_normalization():
    model = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH * WIDTH, 11), nn.BatchNorm1d(11), nn.ReLU(), nn.Linear(11, 3))
    return diagnosed(model)


@near(MIXED_SAMPLES)
@pytest.mark.parametrize("batch_first", [True, False])
def test_positions_of_either_axis_may_mix(batch_first):
    model = nn.ModuleDict({"gru": nn.GRU(WIDTH, 11, batch_first=batch_first), "out": nn.Linear(11, CLASSES)})
    model.forward = lambda x: model["out"](model["gru"](x)[0])
    return diagnosed(model, y=torch.randint(CLASSES, (SAMPLES, LENGTH)))


@near(MIXED_SAMPLES)
def test_batch_normalization_that_keeps_no_averages():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(LENGTH * WIDTH, track_running_stats=False), nn.Linear(35, 3))
    return diagnosed(model)


@near(MIXED_SAMPLES)
def test_dropout_draws_the_same_mask_for_both_passes():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(LENGTH * WIDTH, CLASSES)

        def forward(self, x):
            return self.out(F.dropout(x.flatten(1), 0.5))  # in evaluation mode as well

    return diagnosed(Drops())


class Sums(nn.Module):
    """Two inputs, the second of which is summed over the given axis before it joins the first."""

    def __init__(self, axis):
        super().__init__()
        self.axis, self.out = axis, nn.Linear(WIDTH, CLASSES)

    def forward(self, both):
        left, right = both.values() if isinstance(both, dict) else both
        return self.out(left + right.sum(self.axis, keepdim=True))


@ill(MIXED_SAMPLES)
@pytest.mark.parametrize("kind", [tuple, list, lambda pair: {"left": pair[0], "right": pair[1]}])
def test_several_inputs(kind):
    both = kind((torch.randn(SAMPLES, WIDTH), torch.randn(SAMPLES, WIDTH)))
    changed = f"the answers to {SAMPLES - 1} of the other samples change as well"
    return diagnosed(Sums(0), both), f"with another first sample, {changed}"


@ill(MIXED_SAMPLES)
def test_targets_of_several_numbers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH * WIDTH, 4), nn.Softmax(0))
    verdict = unvanish.diagnose(
        model, (torch.randn(SAMPLES, LENGTH, WIDTH), torch.rand(SAMPLES, 4)), F.mse_loss
    ).verdict
    changed = f"the answers to {SAMPLES - 1} of the other samples change as well"
    return verdict, f"with another first sample, {changed}"


@near(MIXED_SAMPLES)
def test_several_inputs_that_mix_features():
    return diagnosed(Sums(1), (torch.randn(SAMPLES, WIDTH), torch.randn(SAMPLES, WIDTH)))


class Graph(nn.Module):
    """A graph convolution, whose samples are the nodes of one graph."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("adjacency", torch.ones(SAMPLES, SAMPLES))

    def forward(self, x):
        return self.adjacency @ self.out(x)


class Fails(nn.Linear):
    """It runs only while it is trained."""

    def forward(self, x):
        if not self.training:
            raise RuntimeError("no targets\nin evaluation mode")
        return super().forward(x)


def flat(*axes):
    return nn.Sequential(nn.Flatten(), nn.Linear(*axes))


@pytest.mark.parametrize(
    ("model", "x", "y", "why"),
    [
        (flat(WIDTH, CLASSES), torch.randn(2, WIDTH), [0, 1], "the batch has fewer than 3 samples"),
        (
            nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (3, 35)), nn.Linear(35, CLASSES)),
            torch.randn(21, WIDTH),
            [0, 1, 2],
            "inputs and targets have first axes of different lengths",
        ),
        (
            nn.Sequential(nn.Linear(WIDTH, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            torch.randn(SAMPLES, WIDTH),
            [0] * SAMPLES,
            "a batch normalization without running statistics takes those of the batch",
        ),
        (Graph(), torch.randn(SAMPLES, WIDTH), [0] * SAMPLES, "a tensor relates samples to one another"),
        (
            Fails(WIDTH, 3),
            torch.randn(4, WIDTH),
            [0] * 4,
            r"a pass in evaluation mode fails \(RuntimeError: no targets\)",
        ),
        (
            Attends(0),
            torch.randn(SAMPLES, 2, WIDTH),
            [[0, 1]] * SAMPLES,
            "either of the first two axes may be the batch, and one is shorter than 3",
        ),
    ],
)
def test_what_was_not_looked_at_is_said(model, x, y, why):
    y = torch.tensor(y)
    found = unvanish.diagnose(model, (x, y), lambda out, y: F.cross_entropy(out.flatten(0, -2), y.flatten()))
    assert re.search(f"whether samples mix was not looked at: {why}", "\n".join(found.notes))
    assert MIXED_SAMPLES.name not in {finding.name for finding in found.verdict.findings}
