"""Layers whose outputs are views, as those of nn.Linear on sequences are, and are changed in place."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

BATCH, TIMES, FEATURES, CLASSES = 7, 5, 4, 3


class Positions(nn.Module):
    """Adds positions and a branch to what a linear layer returns, in place or not."""

    def __init__(self, is_in_place):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.branch, self.leave = nn.Linear(FEATURES, 11), nn.Linear(11, 11), nn.Linear(11, CLASSES)
        self.position = nn.Parameter(torch.randn(TIMES, 11))
        self.is_in_place = is_in_place

    def forward(self, x):
        h = self.enter(x)
        assert h._is_view()
        if self.is_in_place:
            h += self.position
            h = h + self.branch(h).relu_()
        else:
            h = h + self.position
            h = h + self.branch(h).relu()
        return self.leave(h).mean(1)


class Steps(nn.Module):
    """Calls one layer step after step."""

    def __init__(self, is_in_place):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.turn, self.leave = nn.Linear(FEATURES, 11), nn.Linear(11, 11), nn.Linear(11, CLASSES)
        self.activate = torch.tanh_ if is_in_place else torch.tanh

    def forward(self, x):
        h = self.enter(x)
        for _ in range(6):
            h = self.activate(self.turn(h))
        return self.leave(h).mean(1)


def record(model, is_loss_given):
    torch.manual_seed(1)
    x, y = torch.randn(BATCH, TIMES, FEATURES), torch.randint(CLASSES, (BATCH,))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if is_loss_given:
                recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
        return recorder.flush()


@pytest.mark.parametrize("is_loss_given", [True, False])
@pytest.mark.parametrize("network", [Positions, Steps])
def test_a_view_that_is_changed_in_place_has_the_delta_of_one_that_is_not(network, is_loss_given):
    found, expected = (record(network(is_in_place), is_loss_given) for is_in_place in (True, False))
    for one, other in zip(found, expected, strict=True):
        assert one.trunks == other.trunks
        assert one.trunks[0].layers[0] == "enter"
        for quantity in ("delta_norm", "delta_rms", "gradient_norm", "stream_norm"):
            values, wanted = (record.values.get(quantity, {}) for record in (one, other))
            assert values == pytest.approx(wanted, rel=1e-6), quantity
        assert one.through_time.keys() == other.through_time.keys()
        for layer, norms in other.through_time.items():
            assert one.through_time[layer] == pytest.approx(norms, rel=1e-6)
    assert bool(expected[0].through_time) == (network is Steps)
