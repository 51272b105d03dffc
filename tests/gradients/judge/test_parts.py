"""Findings on networks of several parts, each with an optimizer of its own."""

import torch
from torch import nn
from torch.nn import functional as F
from trained import COLUMNS, ROWS

from unvanish.gradients import GradientRecorder, Report


def adversaries(rates, spare=None):
    """The findings on a generator and its critic, which learn at these rates."""
    parts = {"generator": (COLUMNS, 2), "critic": (2, 1)}
    model = nn.ModuleDict(
        {name: nn.Sequential(nn.Linear(a, 11), nn.ReLU(), nn.Linear(11, b)) for name, (a, b) in parts.items()}
    )
    if spare is not None:
        model["spare"] = spare
    optimizers = {name: torch.optim.Adam(model[name].parameters(), rates[name]) for name in parts}
    report = Report()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        recorder.optimizes(*optimizers.values())

        def step(number, part, made, is_real):
            z = model["critic"](made)
            loss = F.binary_cross_entropy_with_logits(z, is_real.expand(len(z), 1))
            model.zero_grad()
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(number, model[part].parameters(), loss=loss)
            optimizers[part].step()
            recorder.after_step(optimizers[part])

        def make():
            made = model["generator"](torch.randn(ROWS, COLUMNS))
            return made if spare is None else spare(made)

        real = torch.cat([torch.zeros(ROWS, 1), torch.ones(ROWS, 1)])
        for number in range(12):
            step(number, "critic", torch.cat([make().detach(), torch.randn(ROWS, 2) + 2]), real)
            step(number, "generator", make(), torch.ones(1, 1))
    report.add(recorder.flush())
    return report.end.findings


def test_what_is_wrong_with_one_part_is_said_of_it():
    (finding,) = adversaries({"critic": 0.01, "generator": 0.0})
    assert (finding.name, finding.where) == ("weights that do not move", "generator")
    assert str(finding).startswith("weights that do not move: in generator, all 2 layers get a gradient")


def test_what_is_wrong_with_all_parts_alike_is_said_once():
    (finding,) = adversaries({"critic": 0.0, "generator": 0.0})
    assert (finding.name, finding.where) == ("weights that do not move", "")
    (finding,) = adversaries({"critic": 0.01, "generator": 0.01}, nn.Linear(2, 2))
    assert (finding.name, finding.where) == ("parameters in no optimizer", "")
    assert finding.evidence == "2 parameters in no optimizer: spare.weight, spare.bias"
