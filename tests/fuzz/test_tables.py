"""What a stranger's file may hold: each is refused in one line, said with its row or column, or read rightly."""

import csv
import logging

import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from benchmarks.tables.__main__ import KINDS, outcome
from benchmarks.tables.defects import written
from unvanish.data.columns import holds_numbers, parsed
from unvanish.data.table_file import TableFormat, read_table

# `make fuzz` draws others each time.
FEW = settings(
    max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr)
ODD = st.sampled_from(["", "NA", "1e309", "?", "1,5", "$3", "a", "A", " a", "true", "Total", "1.234.567", "nan", "1e5"])
ANY = st.text("ab1,;.\" '\n\t\u00e9\u2212\0", max_size=4)


@st.composite
def tables(draw):
    """Rows of columns that hold numbers, texts, or anything."""
    length = draw(st.integers(1, 14))
    kinds = st.sampled_from(
        [NUMBERS, NUMBERS | st.just(""), NUMBERS | ODD, ODD, ANY, st.sampled_from("abc"), st.just("$5")]
    )
    columns = [draw(st.lists(draw(kinds), min_size=length, max_size=length)) for _ in range(draw(st.integers(1, 4)))]
    return [[f"c{i}" for i in range(len(columns))], *map(list, zip(*columns, strict=True))]


MISSING = ("", "NA", "nan")


def attempt(read):
    """What is read, or why nothing is."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(st.data())
def test_a_defective_file_is_refused_said_or_read_rightly(tmp_path, kind, data):
    name = data.draw(st.sampled_from(sorted(KINDS[kind][2])))
    result, words = outcome(kind, name, data.draw(st.integers(0, 10_000)), tmp_path)
    assert result in ("refused", "said", "right"), words
    if result == "refused":
        assert "rows.csv" in words


@pytest.mark.slow
@FEW
@given(tables(), st.sampled_from(",;\t"), st.booleans())
def test_what_is_read_is_what_the_cells_say(tmp_path, rows, delimiter, quoted):
    path = tmp_path / "rows.csv"
    path.write_text(written(rows, delimiter, quoted=quoted), newline="")
    form = TableFormat(delimiter=delimiter)
    frame, refusal = attempt(lambda: parsed(read_table(str(path), form), str(path), form))
    event("refused" if frame is None else "read")
    if frame is None:
        assert "\n" not in refusal
        assert "rows.csv" in refusal
        return
    with path.open(newline="") as file:
        _, *cells = [row for row in csv.reader(file, delimiter=delimiter) if row]
    assert frame.shape == (len(cells), len(cells[0]))
    for name, column in zip(frame, zip(*cells, strict=True), strict=True):
        for found, cell in zip(frame[name].tolist(), column, strict=True):
            text = cell.strip()
            if pd.isna(found):
                assert text in MISSING
            elif isinstance(found, bool):
                assert text.lower() == str(found).lower()
            elif holds_numbers(frame[name]):
                assert found == pytest.approx(float(text.removeprefix("$")), rel=1e-12)
            else:
                assert found == text


@FEW
@given(st.binary(max_size=60), st.sampled_from([".csv", ".tsv", ".parquet", ".csv.gz"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    frame, refusal = attempt(lambda: read_table(str(path)))
    if frame is None:
        assert "\n" not in refusal
    else:
        assert len(frame) >= 1
        assert frame.columns.is_unique


def test_nothing_is_logged_of_a_clean_file_but_its_table(tmp_path, caplog):
    caplog.set_level(logging.INFO, "unvanish")
    for kind in KINDS:
        assert outcome(kind, "a byte order mark", 3, tmp_path) == ("right", "")
    assert not caplog.messages
