import logging

import numpy as np
import pandas as pd
import pytest

from unvanish.data import Series, Tabular
from unvanish.data.outliers import StandIn, in_words, say_outliers, stand_ins

ROWS = 80
RNG = np.random.default_rng(0)
WHOLE, DEGREES = RNG.integers(0, 40, ROWS), RNG.normal(10, 8, ROWS)


def with_values(values, **rows):
    column = pd.Series(np.array(values, dtype=float))  # a copy, for a pandas that writes through
    for row, value in rows.items():
        column[int(row[1:])] = value
    return column


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (with_values(DEGREES, r7=-999, r20=-999), [StandIn(-999, 2, 8)]),
        (with_values(DEGREES, r7=-9999, r20=-9999, r30=-999, r3=9999, r4=9999), [(-9999, 2, 8), (9999, 2, 4)]),
        (with_values(DEGREES, r0=999.9, r1=999.9, r2=999.9), [(999.9, 3, 1)]),
        (with_values(DEGREES, r5=1e4, r6=1e4, r9=np.nan), [(1e4, 2, 6)]),
        (with_values(WHOLE * 1000.0, r5=-999, r6=-999), [(-999, 2, 6)]),  # not far, but the one below 0
        (with_values(WHOLE * 1000.0 - 5, r5=-999, r6=-999), []),
        (with_values(WHOLE, r5=99, r6=99), [(99, 2, 6)]),
        (with_values(WHOLE * 2, r5=99, r6=99), []),
        (with_values(DEGREES, r7=-999), []),  # once: an outlier as any other
        (with_values(DEGREES + 1000, r7=0, r9=0), []),  # a zero is a zero
        (with_values(WHOLE % 2), []),
        (with_values(WHOLE % 3 * 100), []),
        (with_values(np.zeros(ROWS), r3=99, r4=99), []),
        (with_values(RNG.lognormal(0, 2, ROWS).round(1)), []),
        (with_values(np.full(ROWS, np.nan)), []),
        (pd.Series([], dtype=float), []),
    ],
)
def test_numbers_that_may_stand_for_what_is_missing(column, found):
    assert stand_ins(column) == found


def test_a_value_that_dwarfs_all_others_is_said(caplog):
    say_outliers(pd.DataFrame({"x": [*np.linspace(0, 1, 22), 1e9], "z": np.arange(23.0)}), "rows.csv")
    assert caplog.messages == [
        "rows.csv: column 'x' has 1e+09 in row 23 below the header, next to which all its other values are nearly equal"
    ]


def test_what_is_in_the_table_of_columns():
    assert in_words(with_values(DEGREES, r7=-999, r20=-999)) == "; 2 are -999"
    assert in_words(with_values(np.ones(ROWS), r7=np.nan)) == "; constant"
    assert in_words(pd.Series(DEGREES)) == in_words(with_values(np.full(ROWS, np.nan))) == ""


SAID = (
    "column 'x' has -999 in 3 rows, the first row 5 below the header, far from all others; na_values='-999' if it "
    "stands for a missing value"
)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_they_are_said_of_tables_and_series_and_na_values_makes_them_missing(tmp_path, caplog, suffix):
    path = tmp_path / f"rows.{suffix}"
    x = with_values(DEGREES.round(2), r4=-999, r9=-999, r33=-999)
    frame = pd.DataFrame({"x": x, "y": WHOLE.astype(float)})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    for load, option in ((Tabular, {"target": "y"}), (Series, {"targets": ["y"], "window": 5})):
        caplog.clear()
        data = load(path=str(path), **option)
        assert data.splits
        assert sum(SAID in line for line in caplog.messages) == 1
        assert data.summary.splitlines()[2].endswith("scaled; 3 are -999")
        caplog.clear()
        with caplog.at_level(logging.INFO, "unvanish.data"):
            data = load(path=str(path), na_values="-999", **option)
            assert data.splits
        assert data.summary.splitlines()[2].split()[:3] == ["x", "number", "3"]
        assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_they_are_said_of_a_numeric_target_and_of_new_rows(tmp_path, caplog):
    path, new = tmp_path / "rows.csv", tmp_path / "new.csv"
    pd.DataFrame({"x": DEGREES, "y": with_values(DEGREES, r4=-999, r9=-999)}).to_csv(path, index=False)
    pd.DataFrame({"x": with_values(DEGREES, r4=-999, r9=-999)}).to_csv(new, index=False)
    data = Tabular(path=str(path), target="y", predict_path=str(new))
    assert data.splits
    assert data.summary.splitlines()[3].endswith("target; 2 are -999")
    said = [line.partition(": ")[2][:60] for line in caplog.messages]
    assert said == [f"column {name!r} has -999 in 2 rows, the first row 5 below the header"[:60] for name in "yx"]
