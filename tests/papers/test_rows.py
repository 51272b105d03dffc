from pathlib import Path

import pytest

from benchmarks.papers import __main__ as papers
from benchmarks.papers.figures import factor, near, near_factor
from benchmarks.papers.row import Figure, Row, Settings

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[3] / "shared" / "data"
NEED_MNIST = {"glorot_jacobian", "nielsen"}
QUICK = [key for key, row in papers.ROWS.items() if row.is_quick]


def test_every_row_has_its_place_and_a_standing():
    assert list(papers._FOUND.keys() ^ papers.ROWS.keys()) == []
    for key, row in papers.ROWS.items():
        assert row.key == key
        assert row.standing in {"read", "read in part", "code read", "second hand", "derived"}
    assert len(papers.ROWS) == 16
    assert set(QUICK) >= NEED_MNIST


@pytest.mark.parametrize("key", QUICK)
def test_a_quick_row_comes_out_with_one_seed(key, tmp_path):
    if key in NEED_MNIST and not (SHARED / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {SHARED}")
    figures = papers.ROWS[key].compute(Settings(SHARED, seeds=1, out=tmp_path))
    assert figures
    assert [figure for figure in figures if not figure.passed] == []


def test_a_figure_passes_where_its_mean_over_seeds_is_within_the_tolerance():
    assert near("He", 1, [0.98, 1.01], 0.01) == Figure("He", "1 +- 0.01", [0.98, 1.01], True)
    assert not near("He", 1, [0.98, 0.99], 0.01).passed
    assert near_factor("8", 2, [1.9, 2.0], 0.03) == Figure("8", "2 +- 3 %", [1.9, 2.0], True)
    assert not near_factor("8", 2, [1.9, 1.9], 0.03).passed
    assert not near_factor("8", 2, [2.1, 2.1], 0.03).passed
    assert near_factor("8", 2, [1.0, 4.0], 0.03).passed  # of factors the mean is the geometric one


def test_the_factor_is_that_from_one_layer_back_to_the_one_before_it():
    assert factor([7.0, 32.0, 16.0, 8.0, 3.0], 1, 3) == pytest.approx(2)


def row(key, compute, limit=""):
    return Row(key, "|delta| stays", "He 2015", "read", compute, limit)


def two_figures(settings):
    assert settings == Settings(Path("there"), seeds=5, jobs=2, out=Path("runs"))
    return [Figure("He", "1 +- 0.1", [1.0, 1.5], True), Figure("Xavier", "< 1", [2.0], False)]


def fails(settings):
    raise FileNotFoundError("mnist is\nabsent")


def test_the_table_shows_what_fails_and_why(monkeypatch, capsys):
    monkeypatch.setattr(papers, "ROWS", {"a": row("a", two_figures, "Soft."), "b": row("b", fails)})
    words = ["b", "a", "--root=there", "--seeds=5", "--jobs=2", "--out=runs"]
    assert papers.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    head = "\\|delta\\| stays (He 2015; read)"
    assert f"| b | {head} |  | FileNotFoundError: mnist is absent | no | 0 |" in lines
    assert f"| a | {head} | He: 1 +- 0.1<br>Xavier: < 1 | 1.25 ± 0.35<br>2 (no) | no | 0 |" in lines
    assert "- a: Soft." in lines
    assert lines[-1].endswith("by `python -m benchmarks.papers b a --root DIR --seeds 5 --jobs 2`.")


def test_only_all_rows_are_written_to_the_page_and_the_exit_code_is_of_all_figures(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    good = row("a", lambda settings: [Figure("He", "1", [1.0], True)])
    monkeypatch.setattr(papers, "ROWS", {"a": good})
    monkeypatch.setattr(papers, "PAGE", tmp_path / "PAPERS.md")
    assert papers.main(["a"]) == 0
    assert not papers.PAGE.exists()
    assert papers.main([]) == 0
    assert "| a |" in papers.PAGE.read_text()
    assert [path.name for path in sorted((tmp_path / "runs/papers").iterdir())] == ["1", "2"]  # nothing is used again
    monkeypatch.setattr(papers, "ROWS", {"a": good, "b": row("b", lambda settings: [])})
    assert papers.main(["b"]) == 1  # a row without a figure shows nothing
    capsys.readouterr()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("he_facto", "unknown row 'he_facto'; did you mean 'he_factor'?"),
        ("--seeds=0", "--seeds is 0; it must be at least 1"),
        ("--jobs=0", "--jobs is 0; it must be at least 1"),
    ],
)
def test_a_wrong_word_is_refused(word, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        papers.main([word])
    assert message in capsys.readouterr().err
