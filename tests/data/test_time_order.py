"""Which columns date the rows of a series, and what is refused or said where these are in another order."""

import logging

import numpy as np
import pandas as pd
import pytest

from unvanish.data.timetable import numbers_in_time

ROWS = 132
DAYS, MONTHS, HOURS = (pd.date_range("2001-01-01", periods=ROWS, freq=freq) for freq in ("D", "MS", "h"))
WAVE = np.sin(np.arange(ROWS))
STATION = np.repeat(["north", "south", "west"], ROWS // 3)


def table(**columns):
    return pd.DataFrame({**columns, "y": WAVE})


def read(frame, features=None, date=None):
    return numbers_in_time(frame, "rows.csv", ["y"], features, date)


def text(index, form):
    return index.strftime(form)


SEVERAL = {
    "days": table(year=DAYS.year, month=DAYS.month, day=DAYS.day),
    "days, the other way round": table(day=DAYS.day, month=DAYS.month, year=DAYS.year),
    "months": table(year=MONTHS.year, month=MONTHS.month),
    "months by name": table(Year=MONTHS.year, Month=text(MONTHS, "%b")),
    "quarters": table(year=2000 + np.arange(ROWS) // 4, quarter=np.arange(ROWS) % 4 + 1),
    "weeks": table(year=2000 + np.arange(ROWS) // 52, week=np.arange(ROWS) % 52 + 1),
    "days of the year": table(year=DAYS.year, doy=DAYS.day_of_year),
    "hours": table(YEAR=HOURS.year, MO=HOURS.month, DY=HOURS.day, HR=HOURS.hour),
    "a date and a time": table(Date=text(HOURS, "%d/%m/%Y"), Time=text(HOURS, "%H:%M:%S")),
    "a date and an hour": table(date=text(HOURS, "%Y%m%d").astype(int), hour=HOURS.hour),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_columns_that_date_the_rows_together_must_grow_and_are_no_features(name, caplog):
    frame = SEVERAL[name]
    with caplog.at_level(logging.INFO, "unvanish.data"):
        assert read(frame).columns.tolist() == ["y"]
    (line,) = caplog.messages
    time = line.split("'")[1::2]
    assert (
        line == f"rows.csv: the date of a row is in {', '.join(map(repr, time))}; list what of it should be a feature"
    )
    assert sorted(time) == sorted(frame.columns.drop("y"))
    last, before = (" ".join(str(frame[column].iloc[row]) for column in time) for row in (-1, -2))
    with pytest.raises(
        ValueError, match=f"must increase .*: row 2 below the header has {before}, the row before it {last}"
    ):
        read(frame.iloc[::-1])
    with pytest.raises(ValueError, match=f"must increase .*: row {ROWS + 1} below the header has"):
        read(pd.concat([frame, frame.iloc[-1:]]))


def test_parts_of_a_date_can_be_features():
    assert read(SEVERAL["days"], features=["month"]).columns.tolist() == ["month", "y"]
    with pytest.raises(ValueError, match="date columns 'year', 'month', 'day' must increase"):
        read(SEVERAL["days"].iloc[::-1], features=["month"])
    assert read(SEVERAL["days"].iloc[::-1], features=["year", "month", "day"]).shape == (ROWS, 4)


def test_what_repeats_a_date_that_differs_from_row_to_row_stays_a_feature():
    frame = table(date=text(DAYS, "%Y-%m-%d"), year=DAYS.year, month=DAYS.month, hour=12)
    assert read(frame).columns.tolist() == ["year", "month", "hour", "y"]


def test_a_part_of_a_date_that_is_missing_is_refused():
    frame = SEVERAL["months"].astype({"month": float})
    frame.loc[7, "month"] = np.nan
    with pytest.raises(ValueError, match="date columns 'year', 'month' has nothing in row 8 below the header"):
        read(frame)


def shuffled(values):
    return np.random.default_rng(3).permutation(np.asarray(values))


def twice(values):
    return np.insert(np.asarray(values), 50, np.asarray(values)[49])[:ROWS]


NUMBERS = {
    "decimal years": 1959 + np.arange(ROWS) / 4,
    "decimal years of months": np.round(1959 + (np.arange(ROWS) + 0.5) / 12, 3),
    "unix seconds": 978307200 + 3600 * np.arange(ROWS),
    "unix milliseconds of working days": pd.bdate_range("2001", periods=ROWS).as_unit("ms").astype("int64"),
    "serial days": 40000 + np.arange(ROWS),
    "days in digits": text(DAYS, "%Y%m%d").astype(int),
    "months in digits": text(MONTHS, "%Y%m").astype(int),
    "days in digits, unevenly": text(pd.DatetimeIndex(DAYS[0] + pd.to_timedelta(np.arange(ROWS) ** 2, "D")), "%Y%m%d")
    .astype(int),
}  # fmt: skip


@pytest.mark.parametrize("change", [lambda values: values[::-1], shuffled, twice])
@pytest.mark.parametrize("name", NUMBERS)
def test_times_that_are_numbers_must_grow_under_any_name(name, change, caplog):
    values = np.asarray(NUMBERS[name])
    is_date = "digits" in name
    assert read(table(t=values)).columns.tolist() == (["y"] if is_date else ["t", "y"])
    assert [line.split(" dated by ")[-1] for line in caplog.messages] == []
    frame = table(t=change(values))
    row = 1 + int(np.argmax(np.diff(frame["t"]) <= 0))
    words = (
        f"column 't' .*row {row + 1} below the header has {frame['t'][row]}, the row before it {frame['t'][row - 1]};"
    )
    with pytest.raises(ValueError, match=words):
        read(frame)
    assert read(frame, features=["t"])["t"].tolist() == frame["t"].tolist()


def test_a_day_in_digits_that_no_month_has_is_no_date():
    with pytest.raises(
        ValueError, match="date column 't' has '20010229' in row 60 below the header, which is not a date"
    ):
        read(table(t=np.where(np.arange(ROWS) == 59, 20010229, NUMBERS["days in digits"])))


def test_years_of_another_name_that_fall():
    frame = table(Jahr=MONTHS.year, Monat=MONTHS.month)
    assert read(frame).columns.tolist() == ["Jahr", "Monat", "y"]
    with pytest.raises(
        ValueError, match=r"column 'Jahr' looks like a time and does not increase: " r"row 13 .* has 2010, .* it 2011"
    ):
        read(frame.iloc[::-1])


def test_columns_that_only_look_like_times_are_features(caplog):
    rng = np.random.default_rng(1)
    columns = {
        "trend": np.arange(ROWS) + rng.normal(0, 0.5, ROWS),
        "price": 1900 + np.cumsum(rng.integers(-1, 2, ROWS)),
        "volume": rng.integers(10**8, 2 * 10**9, ROWS),
        "percent": rng.integers(0, 101, ROWS),
        "charge": np.exp(-np.arange(ROWS) / 50),
        "hour": HOURS.hour,
        "month": HOURS.month,
        "step": np.arange(ROWS) // 30,
        "weekday": text(DAYS, "%a"),
    }
    assert read(table(**columns)).columns.tolist() == [*list(columns)[:-1], "y"]
    assert not [line for line in caplog.messages if "left out" not in line]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"date": [*text(DAYS[:44], "%Y-%m-%d")] * 3},
            "date column 'date' must increase .*: row 45 .* within each 'station'",
        ),
        ({"year": [*range(1900, 1944)] * 3}, "date column 'year' must increase .*: row 45 .* within each 'station'"),
        (
            {"year": [*MONTHS[:44].year] * 3, "month": [*MONTHS[:44].month] * 3},
            "date columns 'year', 'month' must increase .*: row 45 .* within each 'station'",
        ),
    ],
)
def test_several_series_in_a_file_are_refused_by_their_dates(columns, words):
    with pytest.raises(ValueError, match=words):
        read(table(**columns, station=STATION))
    interleaved = table(**columns, station=STATION).sort_values([*columns, "station"], ignore_index=True)
    with pytest.raises(ValueError, match=words.replace("45", "2")):
        read(interleaved)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"t": [*range(44)] * 3, "station": STATION}, "'t' increases only within each 'station': row 45 .* 0, .* 43;"),
        ({"t": [*np.arange(44) / 4] * 3, "nr": np.repeat([1, 2, 3], 44)}, "only within each 'nr': row 45 .* 0"),
        ({"t": np.repeat(np.arange(44), 3), "place": ["n", "s", "w"] * 44}, "only within each 'place': row 2"),
        ({"station": STATION}, "'station' goes from 'north' to 'south' in row 45 below the header, and never"),
    ],
)  # fmt: skip
def test_several_series_without_dates_are_said(columns, words, caplog):
    read(table(**columns))
    assert pd.Series(caplog.messages).str.contains(words).sum() == 1


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"Y": DAYS.year, "M": DAYS.month, "D": DAYS.day}, "'M', 'D'"),
        ({"jour": DAYS.day, "mois": DAYS.month}, "'mois', 'jour'"),
        ({"M": HOURS.month, "D": HOURS.day, "H": HOURS.hour}, "'D', 'H'"),
    ],
    ids=["one year", "another language", "hours"],
)
def test_parts_of_a_date_by_any_name_that_fall_from_row_to_row_are_refused(columns, names):
    frame = table(**columns)
    with pytest.raises(
        ValueError, match=f"rows.csv: columns {names} look like a time and do not increase: row 2 below"
    ):
        read(frame[::-1].reset_index(drop=True))
    read(frame)
    read(frame[::-1].reset_index(drop=True), features=list(columns))
