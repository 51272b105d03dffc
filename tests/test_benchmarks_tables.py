import pytest

from benchmarks.tables import __main__ as tables
from benchmarks.tables.defects import COMMON, Defective, clean_table, written


def test_there_are_many_kinds_of_defect():
    assert all(len(defects) > 50 for _, _, defects in tables.KINDS.values())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: Defective(written(rows).encode()), "right"),
        (lambda rows: Defective(written([rows[0], *rows[2:]]).encode(), ("age",)), "silent"),
        (lambda rows: Defective(b""), "refused"),
        (
            lambda rows: Defective(written([[*row[:1], "", *row[2:]] for row in rows[:1]] + rows[1:]).encode()),
            "refused",
        ),
        (lambda rows: Defective(written([*rows[:5], ["", *rows[5][1:]], *rows[6:]]).encode(), ("age",)), "said"),
    ],
)
def test_the_outcome_of_a_file(tmp_path, monkeypatch, change, expected):
    """A row that is left out is what this must be able to see: other tensors, and not a word."""
    monkeypatch.setitem(COMMON, "own", lambda rows, rng: change(rows))
    monkeypatch.setitem(tables.KINDS, "table", (clean_table, tables.KINDS["table"][1], COMMON))
    assert tables.outcome("table", "own", 3, tmp_path)[0] == expected


@pytest.mark.slow
def test_errors_and_hangs_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SECONDS", 1)

    def load(path):
        if path.parent.name == "clean":
            return tables.KINDS["table"][1](path)
        if "hang" in path.read_text():
            while True:
                pass
        raise KeyError("y")

    defects = {"error": lambda rows, rng: Defective(b"a"), "hang": lambda rows, rng: Defective(b"hang")}
    monkeypatch.setitem(tables.KINDS, "own", (clean_table, load, defects))
    assert tables.outcome("own", "error", 0, tmp_path)[0] == "traceback"
    assert tables.outcome("own", "hang", 0, tmp_path)[0] == "hang"


def test_the_table_is_written(tmp_path, monkeypatch, capsys):
    few = {name: COMMON[name] for name in ("a NUL", "a byte order mark")}
    monkeypatch.setattr(tables, "KINDS", {"table": (*tables.KINDS["table"][:2], few)})
    monkeypatch.setattr("sys.argv", ["tables", "--files", "2", "--out", str(tmp_path / "T.md")])
    assert tables.main() == 0
    assert (tmp_path / "T.md").read_text().splitlines()[-5:-2] == [
        "| table | a NUL | 2 |  |  |  |  |  |",
        "| table | a byte order mark |  |  | 2 |  |  |  |",
        "| all | | 2 | 0 | 2 | 0 | 0 | 0 |",
    ]
    assert capsys.readouterr().out == "{'refused': 2, 'right': 2}\n"
