"""The pages of the site that are written from the code, and the check of its links. `make docs` builds the whole."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pages(monkeypatch):
    """The package that writes them."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "site_pages"]:
        del sys.modules[name]


def test_broken_links_and_other_hosts_are_told(pages, tmp_path):
    from site_pages.links import broken

    (tmp_path / "a.html").write_text(
        '<h1 id="here">x</h1><a href="b.html#there">1</a><a href="c.html">2</a><a href="#here">3</a>'
        '<a href="#gone">4</a><a href="https://example.org">5</a><script src="https://example.org/x.js"></script>'
        '<img src="d.png"><a href="sub/">6</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "sub").mkdir()
    assert broken(tmp_path) == [
        "a.html: fetches https://example.org/x.js",
        "a.html: there is no c.html",
        "a.html: there is no place #gone",
        "a.html: there is no sub/",
        "a.html: there is no d.png",
    ]


def test_every_recipe_has_its_place_and_its_figures(pages, tmp_path):
    from site_pages import recipes

    recipes.write(tmp_path)
    text = "\n".join(path.read_text() for path in tmp_path.glob("*.md"))
    names = {
        path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")
    }
    assert set(re.findall(r"^## (.*)$", text, re.MULTILINE)) == names
    text = text.replace("\\", "")
    assert "*Expect*: test/accuracy 0.973 ± 0.003; mean and standard deviation of seeds 0, 1, 2" in text
    rows = "- plain: 0.934 ± 0.021, 0.102 ± 0.002\n- plain_batchnorm:"  # a table in a head is a list
    assert rows in re.sub(" +", " ", text)
    index = (ROOT / "docs/index.md").read_text()
    assert all(f"generated/{path.stem}\n" in index for path in tmp_path.glob("*.md"))


@pytest.mark.slow
def test_the_drawing_has_an_arrow_for_each_import_and_none_goes_up(pages):
    from site_pages import design

    found = design.imports()
    assert found["page"] == found["formulas"] == set()
    assert {"networks", "data", "training", "gradients"} <= found["command"]
    assert "networks" not in found["gradients"]
    rooms = {path.name for path in (ROOT / "src/unvanish").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= found.keys()
    assert design.drawing().count('class="arrow"') == sum(map(len, found.values()))


def test_every_public_name_is_on_a_page(pages, tmp_path):
    from site_pages import api

    import unvanish

    api.write(tmp_path)
    text = "\n".join(path.read_text() for path in tmp_path.glob("api_*.md"))
    assert {
        name for name in unvanish.__all__ if not re.search(rf":: unvanish\.[\w.]+\.{name}$", text, re.MULTILINE)
    } == set()
    index = (ROOT / "docs/index.md").read_text()
    assert all(f"generated/{path.stem}\n" in index for path in tmp_path.glob("*.md"))


def test_every_page_of_measurements_has_its_command(pages, tmp_path):
    from site_pages import evidence

    evidence.write(tmp_path)
    rows = re.findall(r"^\| \[.*\]\((.*?)\) \| `(.*?)` \|", (tmp_path / "evidence.md").read_text(), re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(rows) == len(evidence.COMMANDS) + len(evidence.PRINTED)
    assert all(command.removeprefix("make ") in targets for _, command in rows if command.startswith("make "))
    for page in (ROOT / "benchmarks").glob("*.md"):
        text = page.read_text()
        assert re.search(r"`(make|python -m benchmarks)[ .]", text), page.name
        assert re.search(r"20\d\d-\d\d-\d\d", text), f"{page.name} does not say of which day its numbers are"


#: A number that was measured, not chosen: a decimal or a power of ten, a time, a size, a share.
MEASURED = re.compile(
    r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?: ?(?:s|ms|seconds|minutes|GiB|%|times)\b| of \d)"
    r"|(?<![\w.])\d+\.\d+(?![\w.])|\b\de[-+]\d"
)
COMMAND = re.compile(r"`[^`]*\b(?:make [a-z]+|python -m benchmarks|unvanish [a-z]+|pytest )")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_a_section_with_measured_numbers_has_the_command_that_yields_them(page):
    blocks = re.split(r"(```.*?```)", page.read_text(), flags=re.DOTALL)
    text = "".join(
        re.sub("^#", " #", block, flags=re.MULTILINE) if index % 2 else block for index, block in enumerate(blocks)
    )
    for section in re.split(r"^(?=#)", text, flags=re.MULTILINE):
        prose = re.sub(r"```.*?```|`[^`]*`", "", section, flags=re.DOTALL)
        numbers = MEASURED.findall(prose)
        assert not numbers or COMMAND.search(section), f"{section.splitlines()[0]}: no command beside {numbers}"
