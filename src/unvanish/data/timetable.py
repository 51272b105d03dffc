"""Reads the numeric columns of a table whose rows are steps in time."""

import logging
from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unvanish.data.columns import parsed
from unvanish.data.outliers import say_outliers
from unvanish.data.table_file import PLAIN, TableFormat
from unvanish.data.time_order import FEW, check_order, is_number, refuse_disorder, time_columns
from unvanish.names import nearest

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]


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
    """The numeric columns in their own order, as float64; missing values are NaN.

    The date column says the order of the rows and is no feature. Without ``date`` it is the first column, not asked for
    as a number, that is called date, datetime or timestamp; else that holds dates, as text that begins like 1958-03,
    03/29/1958 or 29.03.1958, or as numbers such as 19580329; else that is called year or time. Where it repeats itself,
    columns that are called month (or quarter or week), day, hour (or time), minute and second say the rest, and are no
    features either. Where there is no date, no column may count in another way than upwards (``refuse_disorder``).
    Booleans are the numbers 0 and 1.

    Args:
        table: The rows, oldest first.
        source: The origin of the rows, for messages.
        targets: Columns that must be among those returned.
        features: The other columns to return; None for every column whose values are mostly numbers.
        date: The date column; None to detect it.
        ignore: Columns that are not read.
        form: The format of the file.

    Raises:
        ValueError: A column is missing, a date is invalid or not after the one before, or a value is no finite number.
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
        raise ValueError(f"{source}: column {both.pop()!r} is both ignored and asked for")
    table = table.drop(columns=list(ignore))
    columns = parsed(table.drop(columns=date or []), source, form, as_number=asked)
    if date is not None:
        columns = pd.concat([table[date], columns], axis=1)
    time = time_columns(columns, asked, source, date)
    if time:
        check_order(columns, time, source)
    else:
        refuse_disorder(columns, asked, source)
    if features is None:
        others = [str(name) for name in columns if name not in time]
        asked = [name for name in others if name in targets or is_number(columns[name])]
        if left := [name for name in others if name not in asked]:
            logger.info("%s: columns without numbers are left out: %s", source, ", ".join(left))
        if not time and (names := [name for name in left if len(table) > FEW and columns[name].is_unique]):
            logger.warning(
                "%s: column %r differs in every row and cannot be read as a date (row 1 below the header has %r); "
                "the rows are used in the order of the file, which must be oldest first",
                *(source, names[0], columns[names[0]].iloc[0]),
            )
    numbers = pd.DataFrame({name: columns[name].to_numpy(dtype=float, na_value=np.nan) for name in asked})
    say_outliers(numbers, source)
    return numbers


def interpolated(columns: pd.DataFrame) -> Floats:
    """Interpolate missing values linearly; before the first and after the last known value, repeat that value."""
    return columns.interpolate(limit_direction="both").to_numpy(dtype=float)


def last_window(columns: pd.DataFrame, window: int, source: str) -> Floats:
    """The last ``window`` rows, interpolated: (window, F).

    Raises:
        ValueError: There are fewer.
    """
    if len(columns) < window:
        raise ValueError(f"{source}: {len(columns)} rows are too few for a window of {window}")
    return interpolated(columns)[-window:]
