"""The columns of numbers of a table whose rows are steps in time."""

import logging
import re
import warnings
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_integer_dtype

from unvanish.data.columns import holds_numbers, parsed
from unvanish.data.table_file import PLAIN, TableFormat
from unvanish.names import nearest

logger = logging.getLogger(__name__)

_DATE_NAMES = ("date", "datetime", "timestamp", "time", "year")  # in letters alone
_FEW = 10  # rows, of which nothing is concluded
_DIGITS = re.compile(r"[0-9]+")
_DATE = re.compile(r"\d{4}[-/]\d{1,2}|\d{1,2}([-/.])\d{1,2}\1\d{4}")


def numbers_in_time(
    table: pd.DataFrame,
    source: str,
    targets: list[str],
    features: list[str] | None,
    date: str | None,
    *,
    ignore: Collection[str] = (),
    form: TableFormat = PLAIN,
) -> pd.DataFrame:
    """The columns of numbers in their own order, as float64; what is missing is nan.

    The date column says the order of the rows and is no feature. Without ``date`` it is the first column, not asked for
    as a number, that is called date, datetime, timestamp, time or year, holds text that begins like 1958-03,
    03/29/1958 or 29.03.1958, or counts the rows, but not in their order. Where there is none, no column may count
    down, be it as a number, 2029Q4 or FY2029. Booleans are the numbers 0 and 1.

    Args:
        table: The rows, oldest first.
        source: Where they come from, for refusals.
        targets: Columns that must be among those returned.
        features: The others that are; None for every column of numbers, which is one where most values are numbers.
        date: The date column, if it is not to be found.
        ignore: Columns that are not read.
        form: How the file is written.

    Raises:
        ValueError: A column is absent, a date is none or not after the one before it, or a number is none or infinite.
    """
    table = table.reset_index() if isinstance(table.index, pd.DatetimeIndex) else table
    table = table.rename(columns=str)
    asked = list(dict.fromkeys([*(features or []), *targets]))
    for name in (*asked, *ignore) if date is None else (date, *asked, *ignore):
        if name not in table:
            raise ValueError(f"{source}: no column {name!r}{nearest(name, table.columns.tolist())}")
    if date in asked:
        raise ValueError(f"{source}: column {date!r} is the date column, no target or feature")
    if both := {*ignore} & {date, *asked}:
        raise ValueError(f"{source}: column {both.pop()!r} is ignored, and asked for")
    table = table.drop(columns=list(ignore))
    columns = parsed(table.drop(columns=date or []), source, form, as_number=asked)
    if date is None and (date := _find_date(columns, asked, source)) is not None:
        table = columns
    if date is not None:
        _check_dates(table[date], source)
    if features is None:
        others = [str(name) for name in columns if name != date]
        asked = [name for name in others if name in targets or _is_number(columns[name])]
        if left := [name for name in others if name not in asked]:
            logger.info("%s: columns without numbers are left out: %s", source, ", ".join(left))
        if date is None and (names := [name for name in left if len(table) > _FEW and columns[name].is_unique]):
            logger.warning(
                "%s: column %r names each row and is no date that can be read (row 1 below the header has %r); "
                "the rows are taken as they stand, which must be oldest first",
                *(source, names[0], columns[names[0]].iloc[0]),
            )
    return pd.DataFrame({name: columns[name].to_numpy(dtype=float, na_value=np.nan) for name in asked})


def _is_number(column: "pd.Series[Any]") -> bool:
    return holds_numbers(column) or infer_dtype(column, skipna=True) == "boolean"


def _find_date(table: pd.DataFrame, asked: list[str], source: str) -> str | None:
    for name in table:
        column = table[name]
        if name in asked:
            continue
        named = re.sub("[^a-z]", "", str(name).lower()) in _DATE_NAMES
        begins = _DATE.match(str(next(iter(column.dropna()), "")))
        if named or (begins and not _is_number(column)) or _counts_in_disorder(column):
            return str(name)
    for name in table:
        column = table[name]
        if name not in asked and _counts_down(column):
            raise ValueError(
                f"{source}: column {name!r} falls from row to row, from {column.iloc[0]} to {column.iloc[-1]}, and a "
                "series is read oldest first; if that is no time, ask for it among features, or ignore it"
            )
    return None


def _counts_in_disorder(column: "pd.Series[Any]") -> bool:
    if not is_integer_dtype(column) or len(column) <= _FEW or column.is_monotonic_increasing:
        return False
    return column.is_unique and column.max() - column.min() == len(column) - 1


def _counts_down(column: "pd.Series[Any]") -> bool:
    """Whether whole numbers fall from each row to the next, as do those in texts of one form: 2029Q4 or Q4 2029."""
    if len(column) <= _FEW or not column.is_unique or column.isna().any():
        return False
    if _is_number(column):
        return column.is_monotonic_decreasing and bool((column % 1 == 0).all())
    texts = column.astype(str)
    if texts.str.replace(_DIGITS, "", regex=True).nunique() > 1 or not _DIGITS.search(texts.iloc[0]):
        return False
    counts = [tuple(map(int, _DIGITS.findall(text))) for text in texts]
    backwards = [count[::-1] for count in counts]  # the year comes last
    return any(all(a > b for a, b in pairwise(keys)) for keys in (counts, backwards))


def _check_dates(column: "pd.Series[Any]", source: str) -> None:
    where = f"{source}: date column {column.name!r}"
    is_number = holds_numbers(column)
    try:
        dates = column if is_number else _dates(column)
    except TypeError as error:  # durations, times of day, lists
        raise ValueError(f"{where} is of kind {column.dtype}, which is no date") from error
    for row in np.flatnonzero(dates.isna()):
        value = "nothing" if pd.isna(column.iloc[row]) else repr(str(column.iloc[row]))
        raise ValueError(f"{where} has {value} in row {row + 1} below the header, which is no date")
    steps = np.diff(dates.to_numpy().astype("float64" if is_number else "int64"))
    for row in np.flatnonzero(steps <= 0):
        before, here = column.iloc[row], column.iloc[row + 1]
        hint = "; if it is no date, ask for it among features, or ignore it" if is_number else ""
        raise ValueError(
            f"{where} must grow from row to row, oldest first, one series a file: row {row + 2} below the header "
            f"has {here}, the row before it {before}{hint}"
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
