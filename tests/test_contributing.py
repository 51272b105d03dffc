import re
from pathlib import Path

from unvanish.command.main import main

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def test_the_architecture_of_contributing_md_trains_from_its_two_files(workplace, monkeypatch, capsys):
    for language in ("python", "yaml"):
        block = re.search(rf"```{language}\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)
        (workplace / block[1]).write_text(block[2])
    monkeypatch.syspath_prepend(workplace)
    command = re.search(r"^ {4}unvanish (fit -c pyramid.*)$", TEXT, re.MULTILINE)[1]
    assert main([*command.split(), "--trainer.max_epochs=1"]) == 0
    # 64 inputs: 64 -> 32 -> 16 -> 8 -> 10
    assert "Pyramid with 2,834 parameters" in capsys.readouterr().out
