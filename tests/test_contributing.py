import re
import shlex
from pathlib import Path

import pytest
import torch

from unvanish.command.main import main
from unvanish.gradients import GradientRecorder, record
from unvanish.gradients.quantities import QUANTITIES, READERS

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.mark.slow
def test_the_architecture_of_contributing_md_is_checked_diagnosed_and_trained_from_its_two_files(
    workplace, monkeypatch, capsys
):
    written("pyramid", workplace)
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


def written(name: str, folder: Path) -> None:
    """The two files of that name in the guide."""
    for language, suffix in (("python", "py"), ("yaml", "yaml")):
        block = re.search(rf"```{language}\n# {name}\.{suffix}\n(.*?)```", TEXT, re.DOTALL)
        (folder / f"{name}.{suffix}").write_text(block[1])


@pytest.mark.slow
def test_the_data_of_the_guide_is_trained_on_and_tested_from_its_two_files(workplace, monkeypatch, capsys):
    written("waves", workplace)
    monkeypatch.syspath_prepend(workplace)
    commands = re.findall(r"^ {4}unvanish (\w+ -c waves\.yaml.*)$", TEXT, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["fit", "test"]
    for command in commands:
        assert main(shlex.split(command)) == 0
    shown = capsys.readouterr().out
    assert "MLP with 1,089 parameters" in shown  # 32 -> 32 -> 1
    assert float(re.search(r"test/accuracy +([\d.]+)", shown)[1]) > 0.9
    from waves import Waves

    data = Waves(length=8)
    assert [len(part[0]) for part in data.splits[:3]] == [420, 60, 120]
    assert all(y.mean() == 0.5 for _, y in data.splits[:3])


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
