"""The primer's notebooks as a course: goals first, exercises to be tried, answers apart, no file beside them."""

import json
import re
from pathlib import Path

import pytest

from unvanish.exercises import find

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells_of(path):
    return [(cell, "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]


def test_the_chapters_are_numbered_without_a_gap():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{chapter:02}" for chapter in range(15)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_opens_with_its_goal_and_ends_with_a_summary_and_what_comes_next(path):
    cells = cells_of(path)
    assert cells[0][1].startswith("# ")
    assert all(word in cells[1][1] for word in ("**Goal**:", "**You need**:", "**Reading**:"))
    (summary,) = [text for _, text in cells if text.startswith("## Summary")]
    linked = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", summary)
    assert linked
    assert all((path.parent / name).exists() for name in linked)


def install_cells():
    return {text for path in NOTEBOOKS for cell, text in cells_of(path)[2:3] if cell["cell_type"] == "code"}


def test_the_first_cell_of_each_chapter_installs_the_package_where_it_is_absent(tmp_path, monkeypatch):
    (code,) = install_cells()  # one and the same in all
    asked = []
    code = re.sub(r"%pip (.*)", r"asked.append(f'''\1''')", code)

    def run(*, absent=True):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if absent else name)
        exec(code, {"asked": asked})

    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    run(absent=False)
    assert not asked
    with pytest.raises(ModuleNotFoundError, match=r"bring a wheel of unvanish here"):
        run()
    (tmp_path / "src" / "unvanish").mkdir(parents=True)
    run()
    (folder / "unvanish-0.1.0-py3-none-any.whl").touch()
    run()
    sources = [tmp_path, folder / "unvanish-0.1.0-py3-none-any.whl"]
    assert asked == [f'install --quiet "{source}[exercises]"' for source in sources]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_cell_fits_a_screen_and_needs_no_file_beside_it(path):
    code = [text for cell, text in cells_of(path) if cell["cell_type"] == "code"]
    assert max(len(text.split("\n")) for text in code) <= 30
    assert not any("mplstyle" in text for text in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_that_draws_is_folded(path):
    code = [cell for cell, _ in cells_of(path) if cell["cell_type"] == "code"]
    drawing = [cell for cell in code if any("image/png" in output.get("data", {}) for output in cell["outputs"])]
    assert drawing
    assert all(cell["metadata"].get("jupyter", {}).get("source_hidden") for cell in drawing)


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_answers_stand_apart_and_are_folded(path):
    cells = cells_of(path)
    place = {text.split("\n")[0]: index for index, (_, text) in enumerate(cells)}
    start, end, answers = (place[head] for head in ("## Exercises", "## Summary", "## Answers"))
    assert start < end < answers
    for number in (1, 2, 3):
        (question,) = [k for k in range(start, end) if cells[k][1].startswith(f"**{number}.** ")]
        assert cells[question + 1][1].startswith(f"# {number}: your answer")
    code = [cell for cell, _ in cells[answers:] if cell["cell_type"] == "code"]
    assert len(code) >= 3
    assert all(cell["metadata"]["jupyter"]["source_hidden"] for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_formula_is_left_to_the_reader_and_is_one_of_the_chapter(path):
    (found,) = [(cell, text) for cell, text in cells_of(path) if "from unvanish.exercises import check" in text]
    name = re.search(r'^check\("(\w+)", my_\w+\)$', found[1], re.MULTILINE)[1]
    chapter = int(path.name[:2])
    assert find(name).chapter == {0: 6, 14: 12}.get(chapter, chapter)  # the first and the last have none of their own
    assert "raise NotImplementedError" in found[1]
    assert found[0]["outputs"][0]["data"]["text/plain"] == [f"{name} {find(name).function}: not written yet"]


@pytest.mark.parametrize("path", NOTEBOOKS[11:14], ids=lambda path: path.stem)
def test_each_family_has_its_drawing_with_the_gradients_way(path):
    code = [(cell, text) for cell, text in cells_of(path) if cell["cell_type"] == "code"]
    drawings = [cell for cell, text in code if "boxes(axes" in text and "gradient=True)" in text]
    assert drawings
    assert all("image/png" in cell["outputs"][0]["data"] for cell in drawings)
