"""The columns of numbers of a table whose rows are steps in time."""

import logging
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from unvanish.names import nearest

logger = logging.getLogger(__name__)

_DATE_NAMES = ("date", "datetime", "timestamp", "time", "year")
_DATE = re.compile(r"\d{4}[-/]\d{1,2}|\d{1,2}([-/.])\d{1,2}\1\d{4}")


def numbers_in_time(
    table: pd.DataFrame, source: str, targets: list[str], features: list[str] | None, date: str | None
) -> pd.DataFrame:
    """The columns of numbers in their own order, as float64; what is missing is nan.

    The date column says the order of the rows and is no feature. Without ``date`` it is the first column, not asked for
    as a number, that is called date, datetime, timestamp, time or year (of numbers, only if they grow) or holds text
    that begins like 1958-03, 03/29/1958 or 29.03.1958. Booleans are the numbers 0 and 1.

    Args:
        table: The rows, oldest first.
        source: Where they come from, for refusals.
        targets: Columns that must be among those returned.
        features: The others that are; None for every column of numbers, which is one where most values are numbers.
        date: The date column, if it is not to be found.

    Raises:
        ValueError: A column is absent, a date is none or not after the one before it, or a number is none or infinite.
    """
    table = table.reset_index() if isinstance(table.index, pd.DatetimeIndex) else table
    table = table.rename(columns=str)
    asked = list(dict.fromkeys([*(features or []), *targets]))
    for name in asked if date is None else [date, *asked]:
        if name not in table:
            raise ValueError(f"{source}: no column {name!r}{nearest(name, table.columns.tolist())}")
    if date in asked:
        raise ValueError(f"{source}: column {date!r} is the date column, no target or feature")
    date = date or _find_date(table, asked)
    if date is not None:
        _check_dates(table[date], source)
    if features is None:
        others = [str(name) for name in table if name != date]
        asked = [name for name in others if name in targets or _is_number(table[name])]
        if left := [name for name in others if name not in asked]:
            logger.info("%s: columns without numbers are left out: %s", source, ", ".join(left))
    return pd.DataFrame({name: _numbers(table[name], source) for name in asked})


def _coerced(column: "pd.Series[Any]") -> "pd.Series[float]":
    """The column as float64; nan for what is missing or no number."""
    plain = column if is_numeric_dtype(column) else column.astype(object)
    return pd.Series(pd.to_numeric(plain, errors="coerce").to_numpy(dtype=float, na_value=np.nan))


def _is_number(column: "pd.Series[Any]") -> bool:
    return is_numeric_dtype(column) or bool(_coerced(column.dropna()).notna().mean() > 0.5)


def _numbers(column: "pd.Series[Any]", source: str) -> "pd.Series[float]":
    where = f"{source}: column {column.name!r}"
    numbers = _coerced(column)
    for row in np.flatnonzero(numbers.isna().to_numpy() & column.notna().to_numpy()):
        raise ValueError(f"{where} must hold numbers; row {row + 1} below the header has {str(column.iloc[row])!r}")
    for row in np.flatnonzero(np.isinf(numbers)):
        raise ValueError(f"{where} holds an infinite value in row {row + 1} below the header")
    return numbers


def _find_date(table: pd.DataFrame, asked: list[str]) -> str | None:
    for name in table:
        column = table[name]
        is_named = str(name).lower() in _DATE_NAMES
        if name in asked:
            continue
        if _is_number(column):
            if is_named and is_numeric_dtype(column) and column.is_monotonic_increasing and column.is_unique:
                return str(name)
        elif is_named or _DATE.match(str(next(iter(column.dropna()), ""))):
            return str(name)
    return None


def _check_dates(column: "pd.Series[Any]", source: str) -> None:
    where = f"{source}: date column {column.name!r}"
    dates = column if is_numeric_dtype(column) else _dates(column)
    for row in np.flatnonzero(dates.isna()):
        value = "nothing" if pd.isna(column.iloc[row]) else repr(str(column.iloc[row]))
        raise ValueError(f"{where} has {value} in row {row + 1} below the header, which is no date")
    steps = np.diff(dates.to_numpy().astype("float64" if is_numeric_dtype(column) else "int64"))
    for row in np.flatnonzero(steps <= 0):
        before, here = column.iloc[row], column.iloc[row + 1]
        raise ValueError(
            f"{where} must grow from row to row, oldest first, one series a file: row {row + 2} below the header "
            f"has {here}, the row before it {before}"
        )
    if len(steps) and (longer := np.count_nonzero(steps > 1.5 * np.median(steps))):
        logger.info("%s: %d of %d steps are longer than usual; rows count as evenly spaced", where, longer, len(steps))


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
