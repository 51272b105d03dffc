"""Recording leaves no trace: not in the weights, not in the model, not in memory."""

import gc
import warnings
import weakref
from contextlib import nullcontext

import pytest
import torch
from recorded import NETWORKS, batches
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder


def backward(model, dtype=torch.float32):
    ((x, y),) = batches(dtype, 1)
    F.cross_entropy(model(x), y).backward()


@pytest.mark.parametrize("name", NETWORKS)
def test_recording_does_not_change_training(name):
    def weights_after(recorded):
        torch.manual_seed(0)
        model = NETWORKS[name][0]()
        with GradientRecorder(model, every_n_steps=2, first_steps=2) if recorded else nullcontext() as recorder:
            optimizer = torch.optim.Adam(model.parameters())
            for step, (x, y) in enumerate(batches(torch.float32, 5)):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                if recorded:
                    recorder.before_step(step)
                optimizer.step()
                if recorded:
                    recorder.after_step()
        return model.state_dict(), torch.rand(1)

    (expected, expected_draw), (found, draw) = weights_after(recorded=False), weights_after(recorded=True)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert draw == expected_draw


@pytest.mark.parametrize("name", NETWORKS)
def test_no_hook_is_left(name):
    model = NETWORKS[name][0]()
    with GradientRecorder(model, first_steps=1) as recorder:
        for step in range(2):
            backward(model)
            recorder.before_step(step)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(weight._backward_hooks for weight in model.parameters())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps():
    def tensors():
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())

    model = NETWORKS["lstm"][0]()
    counts = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(9):
            model.zero_grad()
            backward(model)
            recorder.before_step(step)
            recorder.after_step()
            assert len(recorder.flush()) == 1
            if step in (2, 8):
                counts.append(tensors())
        assert recorder.pending_steps == 0
        assert recorder.flush() == []
    assert counts[1] <= counts[0]


class Marker:
    """Lives as long as the graph that it is in."""


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, marker):
        ctx.marker = marker
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class ReturnsItsLoss(nn.Sequential):
    def forward(self, x):
        return super().forward(x).square().mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.Sequential, ReturnsItsLoss])
def test_an_evaluation_that_forgets_no_grad_keeps_no_graph(kind):
    model, markers = kind(*NETWORKS["mlp"][0]()), []

    def mark(module, inputs, output):
        marker = Marker()
        markers.append(weakref.ref(marker))
        return Marked.apply(output, marker)

    model[2].register_forward_hook(mark)
    with GradientRecorder(model):
        for _ in range(3):
            model(batches(torch.float32, 1)[0][0])
        gc.collect()
        assert [marker() for marker in markers] == [None] * 3
