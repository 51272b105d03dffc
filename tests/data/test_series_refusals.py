import numpy as np
import pandas as pd
import pytest
from build import build

from unvanish.data.series import Series

ROWS, TRAIN = 101, 60


def table(**columns):
    row = np.arange(ROWS)
    dates = pd.date_range("2020-01-31", periods=ROWS, freq="D").astype(str)
    return pd.DataFrame({"date": dates, "row": row * 1.0, "wave": np.sin(row)} | columns)


def with_hole(values, *rows):
    column = pd.Series(values, dtype=float)
    column[list(rows)] = np.nan
    return column


@pytest.fixture
def load(tmp_path):
    def read(frame, **options):
        path = tmp_path / "rows.csv"
        frame.to_csv(path, index=False)
        parts = {"validation_share": 17, "test_share": ROWS - TRAIN - 17}
        return build(Series, path=str(path), **{"targets": ["row"], "window": 7, "batch_size": 5} | parts | options)

    return read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either dataset, or path and targets"),
        ({"dataset": "co2", "path": "a.csv", "targets": ["y"]}, "give either dataset, or path and targets"),
        ({"path": "a.csv"}, r"give either dataset, or path and targets, not .*'a.csv', targets None"),
        ({"path": "a.csv", "targets": []}, r"give either dataset, or path and targets"),
        ({"dataset": "sunspot"}, r"unknown dataset 'sunspot'; did you mean 'sunspots'\? \(known: sunspots, co2\)"),
        ({"path": "a.xls", "targets": ["y"]}, "unknown kind of file '.xls'"),
        ({"dataset": "co2", "predict_path": "a.txt"}, "unknown kind of file '.txt'"),
        ({"dataset": "co2", "missing": "drop"}, r"unknown treatment of missing values 'drop' \(known: interpolate"),
        ({"dataset": "co2", "window": 0}, "window is 0; it must be at least 1"),
        ({"dataset": "co2", "window": 1, "relative": True}, "window is 1; it must be at least 2 if relative"),
        (
            {"dataset": "co2", "validation_share": 1.0},
            "validation_share must lie between 0 and 1, or be a whole number",
        ),
        ({"dataset": "co2", "validation_share": 0}, "validation_share must lie between 0 and 1, or be a whole number"),
        ({"dataset": "co2", "test_share": 20.5}, "test_share must lie between 0 and 1, or .* of rows, not 20.5"),
        (
            {"dataset": "co2", "test_share": -4},
            "test_share must lie between 0 and 1, or be a whole number of rows, not -4",
        ),
        ({"dataset": "co2", "test_share": 0.9}, "test_share must be above 0 and below 1 - validation_share, not 0.9"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Series, **options)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"features": ["waves"]}, "no column 'waves'; did you mean 'wave'"),
        (
            {"date": table()["date"].tolist()[::-1]},
            {},
            "must increase .*: row 2 below the header has 2020-05-09, the row before it 2020-05-10",
        ),
        ({"wave": with_hole(range(ROWS), 3, 9)}, {"missing": "refuse"}, r"missing values in 'wave' \(2, row 4 first\)"),
        ({"wave": np.nan}, {}, "column 'wave' has no values$"),
        (
            {"wave": with_hole(range(ROWS), *range(TRAIN))},
            {},
            "missing values leave 0 of 53 windows of the training part; two are needed",
        ),
        (
            {"row": with_hole(range(ROWS), *range(TRAIN, ROWS, 2))},
            {},
            "missing values leave 0 of 17 windows of the validation part; two are needed",
        ),
        (
            {},
            {"window": 100},
            r"the training part has 60 rows \(17 of 101 validate, 24 test\); "
            "two windows of 100 rows with a horizon of 1 need 102",
        ),
        (
            {},
            {"validation_share": 90},
            r"the training part has 0 rows \(90 of 101 validate, 24 test\); two windows of 7 rows .* need 9",
        ),
        ({}, {"validation_share": 0.001}, "the validation part has 0 rows; two windows with a horizon of 1 need 2"),
        ({}, {"horizon": 24}, "the validation part has 17 rows; two windows with a horizon of 24 need 25"),
        ({}, {"test_share": 3, "horizon": 5}, "the test part has 3 rows; two windows with a horizon of 5 need 6"),
        ({}, {"seasonal_period": 61}, "seasonal_period 61 is longer than the training part of 60 rows"),
    ],
)
def test_series_that_are_refused(load, columns, options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ = load(table(**columns), **options).splits
    assert "rows.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*rows.csv: No columns to parse"),
        (b"a,y\n", "rows.csv: no rows"),
        (
            b"a,y\n1,2,3\n4,5,6\n",
            "cannot read .*rows.csv: 2 of 2 rows have more or fewer fields than the header, .* row 1 below it, with 3",
        ),
        (
            b"a,y\n\xff\xfe,1\n",
            "cannot read .*rows.csv: line 2 is not utf-8: invalid start byte, byte 0xff; give its encoding",
        ),
        (
            b"date,y\n2020-01-01,1\n",
            "the training part has 1 rows .*; two windows of 32 rows with a horizon of 1 need 34",
        ),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        _ = build(Series, path=str(tmp_path / "rows.csv"), targets=["y"]).splits
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no file .*rows.csv$"):
        _ = build(Series, path=str(tmp_path / "rows.csv"), targets=["y"]).task


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table().rename(columns={"wave": "waves"}), "new.csv: no column 'wave'; did you mean 'waves'"),
        (table().iloc[:6], "new.csv: 6 rows are too few for a window of 7"),
        (table(wave=np.nan), "new.csv: column 'wave' has no values"),
        (table(wave="high"), "new.csv: column 'wave' must hold numbers; row 1 below the header has 'high'"),
    ],
)
def test_new_rows_that_are_refused(tmp_path, load, rows, message):
    rows.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(ValueError, match=message):
        _ = load(table(), predict_path=str(tmp_path / "new.csv")).splits


def test_a_batch_greater_than_the_training_windows_is_refused(load):
    with pytest.raises(ValueError, match="batch_size 54 is greater than the training split of 53 rows"):
        load(table(), batch_size=54).train_dataloader()
