"""Which columns of a table say when its rows were, and whether the rows are in that order, oldest first."""

import logging
import re
import warnings
from collections.abc import Collection, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unvanish.data.columns import holds_numbers, row_of
from unvanish.data.splits import Integers

logger = logging.getLogger(__name__)

Key = NDArray[np.float64 | np.int64]

# Names of columns, in letters alone; the finer ones say the rest of a date that does not differ from row to row.
_DATES = ("date", "datetime", "timestamp")
_IN_YEAR = (("month", "mon", "mo", "mnth"), ("quarter", "qtr"), ("week", "wk"))  # one of them will do
_DAYS = ("day", "dy", "doy", "dayofyear")
_IN_DAY = (("time", "hour", "hr"), ("minute",), ("second",))

FEW = 10  # rows, of which nothing is concluded
_EVEN = 0.6  # of the steps between sorted values: so many are the same in what counts
_DIGITS = re.compile(r"[0-9]+")
_DATE = re.compile(r"\d{4}[-/]\d{1,2}|\d{1,2}([-/.])\d{1,2}\1\d{4}")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def time_columns(table: pd.DataFrame, asked: Collection[str], source: str, date: str | None = None) -> list[str]:
    """The columns that together say when a row was, the coarsest first; none where there are no such.

    Args:
        table: The columns, as ``parsed`` gives them; a date that is given may be of any kind.
        asked: Those that are asked for as numbers. They may say the rest of a date, but not its beginning.
        source: Where the table comes from.
        date: The first of them, if it is not to be found.
    """
    free = [str(name) for name in table if name not in asked]
    found = chain(
        (name for name in free if _letters(name) in _DATES),
        (name for name in free if _holds_dates(table[name])),
        (name for name in free if _letters(name) == "year"),
        (name for name in free if _letters(name) == "time"),
    )
    first = next(found, None) if date is None else date
    if first is None:
        return []

    def called(names: Sequence[str]) -> list[str]:
        return [str(name) for name in table if _letters(name) in names and name != first and _is_key(table[name])]

    finer: list[str] = []
    if not table[first].astype(str).is_unique:
        finer = [name for names in _IN_DAY for name in called(names)]
        if _letters(first) == "year":
            in_year: list[str] = next(filter(None, map(called, _IN_YEAR)), [])
            finer = [*in_year, *called(_DAYS), *finer]
    if finer or (date is None and holds_numbers(table[first]) and _letters(first) not in _PARTS):
        logger.info(
            "%s: the date of a row is in %s; list what of it should be a feature",
            *(source, ", ".join(map(repr, [first, *finer]))),
        )
    return [first, *finer]


def check_order(table: pd.DataFrame, time: Sequence[str], source: str) -> None:
    """Refuse a table with a row that is not after the one before it, and say which steps are longer than usual.

    Raises:
        ValueError: A row has no date, or none after that of the row before it.
    """
    where = f"{source}: date column{'s' * (len(time) > 1)} {', '.join(map(repr, time))}"
    keys = [_checked_key(table[name], where) for name in time]
    for row in np.flatnonzero(_steps(keys) <= 0):
        before, here = (" ".join(str(table[name].iloc[at]) for name in time) for at in (row, row + 1))
        hint = "; if it is not a date, list it among features or ignore it" * holds_numbers(table[time[0]])
        if series := _series(table, [name for name in table if name not in time], keys):
            hint = f"; it does so within each {series!r}"
        raise ValueError(
            f"{where} must increase from row to row, oldest first, one series per file: row {row + 2} below the header "
            f"has {here}, the row before it {before}{hint}"
        )
    steps = np.diff(keys[0])
    if len(time) == 1 and len(steps) and (longer := np.count_nonzero(steps > 1.5 * np.median(steps))):
        logger.info("%s: %d of %d steps are longer than usual; rows count as evenly spaced", where, longer, len(steps))


def refuse_disorder(table: pd.DataFrame, asked: Collection[str], source: str) -> None:
    """Refuse a table without dates in which a column counts, but not upwards; say what looks like several series.

    A column counts if most steps between its sorted values are the same, if it has the same number of rows of each of
    consecutive years, or if whole numbers, also within texts such as 2029Q4 or FY2029, fall from each row to the next.

    Raises:
        ValueError: A column does so that is not among those ``asked`` for.
    """
    if len(table) <= FEW:
        return
    free = [str(name) for name in table if name not in asked]
    for name in free:
        column = table[name]
        if (row := _backwards(column)) is not None:
            raise ValueError(
                f"{source}: column {name!r} looks like a time and does not increase: row {row + 2} "
                "below the header has "
                f"{column.iloc[row + 1]}, the row before it {column.iloc[row]}; rows must be oldest first, one series "
                "per file; if it is not a time, list it among features or ignore it"
            )
    if (parts := _falling_parts(table, free)) and len(parts) > 1:
        rows = table.loc[:, parts].astype(int).astype(str).agg(" ".join, axis=1)
        raise ValueError(
            f"{source}: columns {', '.join(map(repr, parts))} look like a time and do not increase: row 2 below the "
            f"header has {rows.iloc[1]}, the row before it {rows.iloc[0]}; rows must be oldest first; if they are no "
            "time, list them among features or ignore them"
        )
    _say_several(table, [name for name in free if not _are_years(table[name])], source)


def _say_several(table: pd.DataFrame, free: Sequence[str], source: str) -> None:
    """Log a column whose values come again for each value of another, or a text that stands in blocks of rows."""
    for name in free:
        begins_anew = _letters(name) in _PARTS and _letters(name) not in _DAYS  # each year, or each day
        if begins_anew or not holds_numbers(table[name]) or table[name].isna().any():
            continue
        values = table[name].to_numpy(dtype=float)
        steps = np.diff(values)
        if not (steps <= 0).any() or np.mean(steps < 0) > 1 / FEW:
            continue
        series = _series(table, [other for other in free if other != name and _letters(other) not in _PARTS], [values])
        # A trend grows from Monday to Monday as well, but its values do not come again.
        if series and len(np.unique(values)) * table[series].nunique() <= 1.5 * len(values):
            row = row_of(steps <= 0)
            logger.warning(
                "%s: column %r increases only within each %r: row %d below the header has %g, the "
                "row before it %g; are "
                "there several series? They are read as one",
                *(source, name, series, row + 1, values[row], values[row - 1]),
            )
            return
    for name in [name for name in free if not is_number(table[name])]:
        codes = pd.factorize(table[name])[0]
        changes = np.flatnonzero(np.diff(codes))
        if 0 < codes.max() == len(changes) < len(table) / FEW:
            row = int(changes[0]) + 1
            logger.warning(
                "%s: column %r goes from %r to %r in row %d below the header, and never back; are there several "
                "series? They are read as one",
                *(source, name, table[name].iloc[row - 1], table[name].iloc[row], row + 1),
            )
            return


def _letters(name: Any) -> str:
    return re.sub("[^a-z]", "", str(name).lower())


_PARTS = {*_DATES, "year", *_DAYS, *(name for names in (*_IN_YEAR, *_IN_DAY) for name in names)}


def is_number(column: "pd.Series[Any]") -> bool:
    """Whether a column is one of numbers, or of booleans, which are 0 and 1."""
    return holds_numbers(column) or bool(pd.api.types.infer_dtype(column, skipna=True) == "boolean")


def _holds_dates(column: "pd.Series[Any]") -> bool:
    """Whether texts begin like dates, or numbers are such as 19580329."""
    if is_number(column):
        return _dates_in_digits(column) is not None
    return _DATE.match(str(next(iter(column.dropna()), ""))) is not None


def _dates_in_digits(column: "pd.Series[Any]") -> "pd.Series[Any] | None":
    """Days or months of the years 1700 to 2199 that are written as 19580329 or 195803; None if not all look so."""
    if not holds_numbers(column) or len(column) <= FEW:
        return None
    days = column.to_numpy(dtype=float)
    days = days if days.min() > 1e7 else 100 * days + 1
    year, month, day = days // 10_000, days // 100 % 100, days % 100
    is_date = (year >= 1700) & (year < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (day % 1 == 0)
    if not is_date.all():
        return None
    return pd.to_datetime(pd.Series(days.astype(int).astype(str)), format="%Y%m%d", errors="coerce")


def _backwards(column: "pd.Series[Any]") -> int | None:
    """The first row, from 0, whose next one does not go on counting; None if the column does not count, or upwards."""
    if column.isna().any():
        return None
    if not is_number(column):
        return 0 if _fall(column.astype(str)) else None
    values = column.to_numpy(dtype=float)
    steps, sorted_steps = np.diff(values), np.diff(np.unique(values))
    if (steps > 0).all() or not len(sorted_steps):
        return None
    is_even = np.isclose(sorted_steps, np.median(sorted_steps), rtol=0.05, atol=0).mean() >= _EVEN
    if (is_even and len(sorted_steps) >= 0.95 * len(steps)) or ((steps < 0).all() and (values % 1 == 0).all()):
        return row_of(steps <= 0) - 1
    return row_of(steps < 0) - 1 if (steps < 0).any() and _are_years(column) else None


def _falling_parts(table: pd.DataFrame, free: Sequence[str]) -> list[str]:
    """Columns of years, months, days, hours or alike that together fall from each row to the next, the coarsest first.

    Whatever they are called: not by chance do whole numbers fall so.
    """
    parts: dict[str, Any] = {}
    for name in free:
        if holds_numbers(table[name]):
            values = table[name].to_numpy(dtype=float)
            is_part = ((values >= 0) & (values < 100)).all() or (abs(values - 1850) < 350).all()
            if is_part and (values % 1 == 0).all():
                parts[name] = np.diff(values)
    steps: Any = np.zeros(len(table) - 1)
    found: list[str] = []
    while (tied := steps == 0).any():
        coarsest = next((n for n, fall in parts.items() if (fall[tied] <= 0).all() and (fall[tied] < 0).any()), None)
        if coarsest is None:
            return []
        steps = np.where(tied, parts.pop(coarsest), steps)
        found.append(coarsest)
    return found


def _are_years(column: "pd.Series[Any]") -> bool:
    """Whether they are three consecutive years or more, most of them in the same number of rows."""
    if not holds_numbers(column) or not column.between(1500, 2200).all():
        return False
    years, counts = np.unique(column.to_numpy(dtype=float), return_counts=True)
    return len(years) > 2 and bool((np.diff(years) == 1).all() and (counts == np.median(counts)).mean() >= _EVEN)


def _fall(texts: "pd.Series[str]") -> bool:
    """Whether the whole numbers in texts of one form fall from each to the next: 2029Q4 or Q4 2029."""
    if texts.str.replace(_DIGITS, "", regex=True).nunique() > 1 or not _DIGITS.search(texts.iloc[0]):
        return False
    counts = [tuple(map(int, _DIGITS.findall(text))) for text in texts]
    backwards = [count[::-1] for count in counts]  # the year comes last
    return any(all(a > b for a, b in pairwise(keys)) for keys in (counts, backwards))


def _series(table: pd.DataFrame, names: Sequence[Any], keys: Sequence[Key]) -> str | None:
    """The first of some columns, of texts or whole numbers, that parts the rows into series, each of them in order."""
    for name in names:
        if pd.api.types.is_float_dtype(table[name]):
            continue
        codes, distinct = pd.factorize(table[name])
        if not 2 <= len(distinct) <= len(codes) / FEW:
            continue
        order = np.argsort(codes, kind="stable")
        within = np.diff(codes[order]) == 0
        if (_steps([key[order] for key in keys])[within] > 0).all():
            return str(name)
    return None


def _steps(keys: Sequence[Key]) -> Integers:
    """Whether each row but the first is after (1), at (0) or before (-1) the one above it, by the first key to tell."""
    steps = np.zeros(len(keys[0]) - 1, dtype=np.int64)
    for key in keys:
        steps = np.where(steps == 0, np.sign(np.diff(key)).astype(np.int64), steps)
    return steps


def _checked_key(column: "pd.Series[Any]", where: str) -> Key:
    try:
        key = _key(column)
    except TypeError as error:  # durations, times of day, lists
        raise ValueError(f"{where} is of kind {column.dtype}, which is not a date") from error
    for row in np.flatnonzero(key.isna()):
        value = "nothing" if pd.isna(column.iloc[row]) else repr(str(column.iloc[row]))
        raise ValueError(f"{where} has {value} in row {row + 1} below the header, which is not a date")
    return key.to_numpy().astype("float64" if holds_numbers(key) else "int64")


def _key(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers as they are, names of months as numbers, all else as dates; NaN or NaT for what is none of it."""
    if holds_numbers(column):
        dates = _dates_in_digits(column)
        return column if dates is None else dates
    texts = column.astype(str)
    months = texts.str[:3].str.lower().map({name: number for number, name in enumerate(_MONTHS)})
    return months if months.notna().all() and texts.str.isalpha().all() else _dates(column)


def _is_key(column: "pd.Series[Any]") -> bool:
    try:
        return bool(_key(column).notna().any())
    except TypeError:
        return False


def _dates(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The column read as ISO 8601, month first or day first, by what fits best; NaT for what is none of it."""
    readings = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ambiguous and of slow formats
        for options in ({"format": "ISO8601"}, {"dayfirst": False}, {"dayfirst": True}):
            dates = pd.to_datetime(column, errors="coerce", utc=True, **options).dt.tz_convert(None)
            if dates.notna().all() and dates.is_monotonic_increasing:
                return dates
            readings.append(dates)
    return max(readings, key=lambda dates: dates.notna().sum())
