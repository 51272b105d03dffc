import re
import shlex
from pathlib import Path

import torch

from unvanish.command.main import main
from unvanish.gradients import GradientRecorder, record
from unvanish.gradients.quantities import QUANTITIES, READERS

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def test_the_architecture_of_contributing_md_is_checked_diagnosed_and_trained_from_its_two_files(
    workplace, monkeypatch, capsys
):
    for language in ("python", "yaml"):
        block = re.search(rf"```{language}\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)
        (workplace / block[1]).write_text(block[2])
    monkeypatch.syspath_prepend(workplace)
    commands = re.findall(r"^ {4}unvanish (\w+ -c pyramid\.yaml.*)$", TEXT, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["check", "diagnose", "fit"]
    for command in commands:
        assert main(shlex.split(command, comments=True)) == 0
    shown = capsys.readouterr().out
    assert "healthy" in shown
    # 64 inputs: 64 -> 32 -> 16 -> 8 -> 10
    assert "Pyramid with 2,834 parameters" in shown
    assert float(re.search(r"best val/accuracy ([\d.]+)", shown)[1]) > 0.8


def test_the_measure_of_the_guide_is_recorded_by_its_file_alone(monkeypatch):
    space = {}
    exec(re.search(r"```python\n(# zero\.py\n.*?)```", TEXT, re.DOTALL)[1], space)
    quantity = space["ZERO_SHARE"]
    monkeypatch.setattr(record, "QUANTITIES", (*QUANTITIES, quantity))
    monkeypatch.setitem(READERS, quantity.moment, [*READERS[quantity.moment], (quantity.read, False)])
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        model[0].bias[0] = -100.0  # a dead unit: a quarter of the first layer's gradient is 0
    with GradientRecorder(model) as watching:
        model(torch.ones(2, 5)).square().sum().backward()
        watching.before_step(0)
        (found,) = watching.flush()
    for name, index in (("0", 0), ("2", 2)):
        expected = (model[index].weight.grad == 0).double().mean().item()
        assert found.values[quantity.name][name] == expected
    assert found.values[quantity.name]["0"] >= 0.25
