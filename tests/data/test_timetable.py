import datetime
import logging

import numpy as np
import pandas as pd
import pytest

from unvanish.data.timetable import numbers_in_time

ROWS = 47
DATES = pd.date_range("2020-01-31", periods=ROWS, freq="D").strftime("%Y-%m-%d").tolist()


def table(**columns):
    return pd.DataFrame({"date": DATES, "row": range(ROWS), "wave": np.sin(np.arange(ROWS))} | columns)


def with_value(value, row, values=range(ROWS)):
    column = pd.Series(values, dtype=object)
    column[row] = value
    return column


def read(frame, targets=("row",), features=None, date=None):
    return numbers_in_time(frame, "rows.csv", list(targets), features, date)


def test_numbers_are_float64_and_what_is_missing_is_nan():
    found = read(
        table(row=with_value(np.nan, 3), flag=[True, *[False] * 46], small=pd.array([None, *range(46)], "Int8"))
    )
    assert found.columns.tolist() == ["row", "wave", "flag", "small"]
    assert (found.dtypes == "float64").all()
    assert np.flatnonzero(found["row"].isna()).tolist() == [3]
    assert found["flag"].tolist() == [1] + [0] * 46
    assert np.isnan(found["small"][0])
    assert found["small"][1:].tolist() == list(range(46))
    assert found["wave"].tolist() == np.sin(np.arange(ROWS)).tolist()


def test_features_come_in_the_order_asked_for_and_targets_join_them():
    frame = table(third=1.0, place="a")
    assert read(frame, features=["wave"]).columns.tolist() == ["wave", "row"]
    assert read(frame, ["wave", "row"], ["row", "third"]).columns.tolist() == ["row", "third", "wave"]
    assert read(frame, ["wave"]).columns.tolist() == ["row", "wave", "third"]


def test_columns_without_numbers_are_left_out_and_that_is_logged(caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        found = read(
            table(place="a", seen=pd.date_range("2020", periods=ROWS), empty=pd.Series([None] * ROWS, dtype=object))
        )
    assert found.columns.tolist() == ["row", "wave"]
    assert caplog.messages == ["rows.csv: columns without numbers are left out: place, seen, empty"]


@pytest.mark.parametrize(
    "dates",
    [
        pd.date_range("1999-12-31", periods=ROWS, freq="D"),
        [datetime.date(1999, 12, 1) + datetime.timedelta(days) for days in range(ROWS)],
        pd.date_range("1999-12-31", periods=ROWS, freq="ME").strftime("%Y-%m"),
        pd.date_range("1999-12-31 23:00", periods=ROWS, freq="h", tz="Europe/Paris").astype(str),
        pd.date_range("1999-12-31", periods=ROWS, freq="ns").astype(str),
        pd.date_range("1999-12-05", periods=ROWS, freq="D").strftime("%m/%d/%Y"),
        pd.date_range("1999-12-05", periods=ROWS, freq="D").strftime("%d/%m/%Y"),
        pd.date_range("1999-01-01", periods=ROWS, freq="MS").strftime("%d/%m/%Y"),
        pd.date_range("1999-12-05", periods=ROWS, freq="W").strftime("%d.%m.%Y %H:%M"),
    ],
)
def test_plain_dates_are_found_under_any_name_and_must_grow(caplog, dates):
    frame = table(when=dates).drop(columns="date")
    with caplog.at_level(logging.INFO, "unvanish.data"):
        assert read(frame).columns.tolist() == ["row", "wave"]
    assert not [message for message in caplog.messages if "left out" in message]
    with pytest.raises(ValueError, match=r"^rows.csv: date column 'when' must increase .*: row 2 below the header has"):
        read(frame.assign(when=list(dates)[::-1]))


def test_days_first_are_told_by_what_parses(caplog):
    days = pd.date_range("1999-12-05", periods=ROWS, freq="W").strftime("%d/%m/%Y")
    with caplog.at_level(logging.INFO, "unvanish.data"):
        read(table(date=days))
    assert not caplog.messages  # month first, some steps would be longer


def test_dates_in_the_index_are_found():
    frame = table().drop(columns="date").set_index(pd.date_range("2020", periods=ROWS, name="when"))
    assert read(frame).columns.tolist() == ["row", "wave"]
    with pytest.raises(ValueError, match="date column 'when' must increase"):
        read(frame.iloc[::-1])


@pytest.mark.parametrize("name", ["Year", "year", "Date", "timestamp", "Time ", "DATE_TIME"])
def test_a_date_that_is_a_number_must_grow_unless_it_is_asked_for(name):
    rows = table().drop(columns="date")
    years = np.arange(ROWS) + 1900
    assert read(rows.assign(**{name: years})).columns.tolist() == ["row", "wave"]
    for others in (years[::-1], years // 2, np.roll(years, 5), years.astype(float)[::-1]):
        frame = rows.assign(**{name: others})
        with pytest.raises(
            ValueError, match=f"date column '{name}' must increase .*; if it is not a date, list it among"
        ):
            read(frame)
        assert read(frame, features=[name]).columns.tolist() == [name, "row"]
        assert read(frame, date=None, features=[name])[name].tolist() == others.tolist()
        with pytest.raises(ValueError, match=f"date column '{name}' must increase"):
            read(frame, date=name)


def test_a_column_that_counts_the_rows_in_disorder_is_refused_by_any_name():
    rows = table().drop(columns="date")
    with pytest.raises(
        ValueError,
        match=r"column 'Jahr' looks like a time and does not increase: row 2 below the "
        r"header has 1945, .* it 1946; rows",
    ):
        read(rows.assign(Jahr=1900 + np.arange(ROWS)[::-1]))
    assert read(rows.assign(Jahr=1900 + np.arange(ROWS))).columns.tolist() == ["row", "wave", "Jahr"]


@pytest.mark.parametrize("form", ["{0}Q{1}", "Q{1} {0}", "FY{0}-{1}", "{0}{1}"])
def test_what_counts_down_is_newest_first_unless_it_is_asked_for_or_there_is_a_date(form):
    texts = [form.format(1950 + i // 4, i % 4 + 1) for i in range(ROWS)]
    rows = table().drop(columns="date")
    quarters = [int(text) for text in texts] if texts[0].isdigit() else texts
    assert read(rows.assign(when=quarters))["row"].tolist() == [*range(ROWS)]
    words = (
        r"^rows.csv: column 'when' looks like a time and does not increase: row 2 .* has "
        rf"{texts[-2]}, the row before it {texts[-1]};"
    )
    with pytest.raises(ValueError, match=words):
        read(rows.assign(when=quarters[::-1]))
    left = table().assign(when=np.arange(ROWS)[::-1] * 2)  # to an end, in days
    assert read(left[["when", "date", "row"]]).columns.tolist() == ["when", "row"]
    assert read(left.drop(columns="date"), features=["when"])["when"].tolist() == left["when"].tolist()


def test_a_text_that_names_each_row_and_is_no_date_is_said(caplog):
    months = [f"{i % 28 + 1}. {('Januar', 'Mai')[i // 28]}" for i in range(ROWS)]
    read(table(when=months).drop(columns="date"))
    assert caplog.messages == [
        "rows.csv: column 'when' differs in every row and cannot be read as a date (row 1 below the header "
        "has '1. Januar'); the rows are used in the order of the file, which must be oldest first"
    ]


def test_columns_that_are_ignored_are_not_read():
    frame = table(bad=with_value("?", 3)).assign(date="soon")
    kept = numbers_in_time(frame, "rows.csv", ["row"], None, None, ignore=["bad", "date"])
    assert kept.columns.tolist() == ["row", "wave"]
    with pytest.raises(ValueError, match="column 'row' is both ignored and asked for"):
        numbers_in_time(frame, "rows.csv", ["row"], None, None, ignore=["row"])


def test_dates_and_lists_are_no_numbers():
    frame = table(seen=pd.date_range("2020", periods=ROWS), parts=[[1]] * ROWS)
    with pytest.raises(ValueError, match=r"column 'seen' must hold numbers; row 1 .* '2020-01-01 00:00:00', of kind"):
        read(frame, features=["seen"])
    with pytest.raises(ValueError, match=r"column 'parts' must hold numbers or texts; row 1 .* '\[1\]', of kind mixed"):
        read(frame)


def test_a_date_column_is_taken_by_its_name():
    days = pd.date_range("1999", periods=ROWS).strftime("%b %d, %Y")
    rows = table(n=np.arange(ROWS), day=days).drop(columns="date")
    assert read(rows, date="n").columns.tolist() == ["row", "wave"]
    assert read(rows, date="day").columns.tolist() == ["row", "wave", "n"]
    with pytest.raises(ValueError, match=r"'day' must increase .*: row 2 below the header has Feb 15, 1999"):
        read(rows.iloc[::-1], date="day")


def test_a_table_without_dates_is_in_the_order_of_its_rows():
    assert read(table().drop(columns="date").iloc[::-1])["row"].tolist() == list(range(ROWS))[::-1]


def test_uneven_dates_are_logged(caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        read(table(date=pd.bdate_range("2020-01-01", periods=ROWS).astype(str)))
        read(table(date=pd.date_range("2020-01-01", periods=ROWS, freq="MS").astype(str)))  # 28 to 31 days are usual
    assert caplog.messages == [
        "rows.csv: date column 'date': 9 of 46 steps are longer than usual; rows count as evenly spaced"
    ]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"targets": ["rov"]}, "no column 'rov'; did you mean 'row'"),
        ({}, {"features": ["waves"]}, "no column 'waves'; did you mean 'wave'"),
        ({}, {"date": "dates"}, "no column 'dates'; did you mean 'date'"),
        ({}, {"date": "row"}, "column 'row' is the date column, no target or feature"),
        (
            {"date": with_value("soon", 8, DATES)},
            {},
            "date column 'date' has 'soon' in row 9 below the header, which is not a date",
        ),
        ({"date": "soon"}, {}, "date column 'date' has 'soon' in row 1 below the header, which is not a date"),
        ({"date": with_value("2020-02-30", 8, DATES)}, {}, "'date' has '2020-02-30' in row 9 .*, which is not a date"),
        ({"date": with_value(None, 8, DATES)}, {}, "'date' has nothing in row 9 below the header, which is not a date"),
        (
            {"date": with_value(DATES[7], 8, DATES)},
            {},
            "date column 'date' must increase from row to row, oldest first, one series per file: "
            "row 9 below the header "
            "has 2020-02-07, the row before it 2020-02-07",
        ),
        ({"date": DATES[::-1]}, {}, "must increase .*: row 2 below the header has 2020-03-16, .* before it 2020-03-17"),
        (
            {"t": [*range(30), *range(17)]},
            {"date": "t"},
            "'t' must increase .*: row 31 below the header has 0, .* it 29",
        ),
        ({"t": with_value(np.nan, 4).astype(float)}, {"date": "t"}, "date column 't' has nothing in row 5 below"),
        (
            {"row": with_value("n.a.", 40)},
            {},
            "column 'row' must hold numbers; row 41 below the header has 'n.a.'; na_values=",
        ),
        ({"wave": with_value("?", 3)}, {}, r"column 'wave' must hold numbers; row 4 below the header has '\?'"),
        ({"place": "a"}, {"targets": ["place"]}, "column 'place' must hold numbers; row 1 below the header has 'a'"),
        ({}, {"targets": ["wave"], "features": ["date"]}, "column 'date' must hold numbers; row 1 .* '2020-01-31'"),
        (
            {"wave": with_value(-np.inf, 3).astype(float)},
            {},
            "'wave' holds an infinite value in row 4 below the header",
        ),
    ],
)
def test_tables_that_are_refused(columns, options, message):
    with pytest.raises(ValueError, match=f"^rows.csv: .*{message}") as refusal:
        read(table(**columns), **options)
    assert "\n" not in str(refusal.value)
