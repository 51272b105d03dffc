"""Small models of named parts, for tests of single faults, and one way to record them."""

import torch
from torch import nn

from unvanish.gradients import GradientRecorder, Report

SAMPLES, INPUTS, CLASSES = 11, 5, 3


def mlp(inputs=INPUTS, outputs=CLASSES, hidden=2, activation=nn.Tanh):
    layers = [nn.Linear(inputs, 7), activation()]
    for _ in range(hidden):
        layers += [nn.Linear(7, 7), activation()]
    return nn.Sequential(*layers, nn.Linear(7, outputs))


class Built(nn.Module):
    """Parts by name, and how they are run; ``keep`` has autograd itself keep a tensor's gradient."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run, self.kept = run, []
        for name, part in parts.items():
            setattr(self, name, part)

    def keep(self, tensor):
        if tensor.requires_grad:
            tensor.retain_grad()
            self.kept.append(tensor)
        return tensor

    def forward(self, *inputs):
        return self.run(self, *inputs)


def x_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def recorded(model, *inputs, loss=lambda output: output.square().mean(), steps=1, optimizer=None):
    inputs = inputs or (x_of(SAMPLES, INPUTS),)
    report = Report()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(steps):
            model.zero_grad()
            model.kept = []
            loss(model(*inputs)).backward()
            recorder.before_step(step)
            if optimizer is not None:
                optimizer.step()
    records = recorder.flush()
    report.add(records)
    return recorder, records[-1], report.end
