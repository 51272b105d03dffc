import re
import shlex
from pathlib import Path

from unvanish.command.main import main

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
