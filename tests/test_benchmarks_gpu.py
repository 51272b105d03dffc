import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.page import NotHereError, Section, Settings, run

HOME = Path(__file__).parents[1]


def rows_of(page):
    """The verdict of each row by name."""
    return dict(re.findall(r"^\| ((?!check |---).+?) \| (.+?) \|", page, re.MULTILINE))


@pytest.mark.slow
def test_the_command_tries_itself_on_a_cpu_and_writes_its_table(tmp_path):
    words = ["--device", "cpu", "--quick", "--root", str(tmp_path), "--out", str(tmp_path / "page.md")]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "benchmarks.gpu", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOME,
        env=os.environ | {"PYTHONPATH": str(HOME / "src")},
    )
    page = (tmp_path / "page.md").read_text()
    rows = rows_of(page)
    failed = {name: verdict for name, verdict in rows.items() if verdict.startswith("no")}
    assert not failed
    assert done.returncode == 0, done.stderr
    assert page.endswith("Complete.\n")
    assert str(tmp_path) not in page
    assert all(section.title in page for section in command.SECTIONS.values())
    assert sum(verdict == "yes" for verdict in rows.values()) > 50
    assert (
        rows["Adam, foreach"] == rows["Wrap resnet18, bf16-mixed"] == rows["raw loop, MLP of 3 layers of 128"] == "yes"
    )
    needs = {name for name, verdict in rows.items() if verdict == "needs CUDA"}
    assert needs >= {"Trainer, MLP", "raw loop, CNN", "CNN, compiled", "MLP, fp16-mixed", "quickstart -c hardware/gpu"}


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_check_that_fails_is_a_row_and_the_rest_goes_on(tmp_path):
    path, written = tmp_path / "page.md", []

    def fails():
        raise ValueError("a | b\nand more")

    def holds():
        written.append(path.read_text())  # what was known so far is there already
        return ["7"]

    def is_not_here():
        raise NotHereError("torch has none")

    def checks(settings):
        yield from (("first", fails), ("second", holds), ("third", is_not_here))

    settings = Settings(torch.device("cpu"), True, tmp_path, tmp_path)
    assert run([Section("Title", "Text.", ["number"], checks)], settings, path) == 1
    assert r"| first | no: ValueError: a \| b |  |" in written[0]
    page = path.read_text()
    assert "| second | yes | 7 |" in page
    assert "| third | torch has none |  |" in page
    assert "1 yes, 1 no, 1 not here" in page


def test_the_committed_page_is_of_a_whole_run_or_says_what_it_is_of():
    page = command.PAGE.read_text()
    is_told = "Nothing was run yet" in page or "Put together of two runs" in page
    assert is_told or page.endswith("Complete.\n")


@pytest.mark.parametrize("words", [["nonsense"], ["--device", "abacus"], ["--qick"]])
def test_wrong_words_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
