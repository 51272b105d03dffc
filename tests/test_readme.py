import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.papers import __main__ as papers
from unvanish.exercises import EXERCISES
from unvanish.gradients.show.bars import bar

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_papers_has_a_line_for_each_row():
    page = (ROOT / "benchmarks/PAPERS.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(papers.ROWS)
    assert all(line.startswith(f"| {key} |") for line, key in zip(rows[2:], papers.ROWS, strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if link.startswith(("http", "generated/")):  # `make docs` writes the generated pages, and checks their links
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 130
    assert all(len(line) <= 130 for line in TEXT.splitlines() if not line.startswith("!"))
    assert all(len(line) <= 100 for line in TEXT.splitlines() if line.startswith("| "))


def test_the_counts_of_the_readme_are_those_of_the_pages_of_measurements():
    pages = {path.stem: path.read_text() for path in (ROOT / "benchmarks").glob("*.md")}
    kills = re.search(r"(\d+ of \d+) runs ended", pages["TRUST"])[1]
    files = sum(map(int, re.search(r"^\| all \| \| (.*) \|$", pages["TABLES"], re.MULTILINE)[1].split("|")))
    row = re.search(r"^\| all \|((?: [\d.]+ \|){5})", pages["FAULTS"], re.MULTILINE)[1]
    faulty, detected, named, healthy, _ = map(float, row.strip(" |").split(" | "))
    verdicts = re.findall(r"\| (yes|no) \| \d+ \|$", pages["PAPERS"], re.MULTILINE)
    text = " ".join(TEXT.split())
    assert f"{kills} killed runs" in text
    assert f"none of {files:,} damaged files" in text
    assert f"of {faulty:g} faulty training programs {detected:.1f} are detected" in text
    assert f"the cause of {named:.1f} is named (means of three seeds); of {healthy:g} healthy" in text
    assert f"{verdicts.count('yes')} of {len(verdicts)} published claims" in text
    notebooks = len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert f"{notebooks} notebooks, {len(EXERCISES)} exercises" in text


@pytest.mark.slow
def test_the_raw_loop_of_the_page_on_training_ends_in_a_verdict(capsys):
    (code,) = re.findall(
        r"```python\n(from unvanish import GradientRecorder\n.*?)```", (ROOT / "docs/MONITOR.md").read_text(), re.DOTALL
    )
    torch.manual_seed(0)
    layers = [part for _ in range(15) for part in (nn.Linear(7, 7), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(7, 3))
    batches = [(torch.randn(11, 7), torch.randint(3, (11,))) for _ in range(131)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    namespace = {"model": model, "batches": batches, "optimizer": optimizer, "loss": nn.CrossEntropyLoss()}
    exec(code, namespace)
    assert namespace["report"].steps == 131
    assert capsys.readouterr().out.startswith("vanishing: 0 gets ")


def test_the_bars_of_the_page_on_the_terminal_are_those_that_fit_prints():
    text = (ROOT / "docs/TENSORBOARD.md").read_text()
    rows = re.findall(r"^(?:hidden\.0|output) +(.{20})  +(\d\.\de-\d\d)$", text, re.MULTILINE)
    assert len(rows) == 2
    for drawn, value in rows:
        # What is printed has two digits, an eighth of a character less than one.
        assert drawn in {bar(float(value) * factor) for factor in (0.96, 1, 1.04)}
