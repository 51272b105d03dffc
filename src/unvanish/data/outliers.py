"""Numbers that stand apart from the rest of their column: signs for what is missing, and what dwarfs all others."""

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unvanish.data.columns import row_of

logger = logging.getLogger(__name__)

#: 99, 999, ... and 99.9, 999.9, 99.99, ...
_NINES = [(10**digits - 1) / 10**places for digits in range(2, 10) for places in range(3) if digits - places >= 2]
_TIMES = 1000  # the distance between the quartiles


class StandIn(NamedTuple):
    """A number that may stand for what is missing.

    Args:
        value: The number.
        rows: How many have it.
        first: The first of them, from 1.
    """

    value: float
    rows: int
    first: int


def stand_ins(column: "pd.Series[Any]") -> list[StandIn]:
    """What in a column of numbers may stand for what is missing: its least or its greatest number, other than 0, if two
    rows or more have it and it is further from all others than these are from each other.

    Among the others, of which there must be three, neither end counts, nor do other numbers of nines. -99, -999 and
    their like need not be so far where no other number is negative.
    """
    values = column.to_numpy(dtype=float)
    values = values[~np.isnan(values)]
    found = []
    for end in {values.min(), values.max()} - {0.0} if len(values) else ():
        rows = (column == end).to_numpy()
        if (count := int(rows.sum())) > 1 and _is_apart(end, values):
            found.append(StandIn(float(end), count, row_of(rows)))
    return sorted(found)


def _is_apart(end: float, values: NDArray[np.float64]) -> bool:
    others = values[(values != values.min()) & (values != values.max())]
    others = others[~np.isin(np.abs(others), _NINES)]
    if not len(others):
        return False
    least, most = others.min(), others.max()
    is_far = max(least - end, end - most) > most - least
    is_code = end < 0 <= least and -end in _NINES
    return bool((is_far or is_code) and len(np.unique(others)) > 2)


def in_words(column: "pd.Series[Any]") -> str:
    """What stands behind what becomes of a column: that it is constant, or what in it may stand for what is missing."""
    if column.min() == column.max():
        return "; constant"
    return "".join(f"; {rows} are {value:.10g}" for value, rows, _ in stand_ins(column))


def say_outliers(table: pd.DataFrame, source: str) -> None:
    """Log numbers that may stand for what is missing, and those beside which all others of a column are the same."""
    for name, values in table.items():
        found = stand_ins(values)
        for value, rows, first in found:
            logger.warning(
                "%s: column %r has %.10g in %d rows, the first row %d below the header, far from all others; "
                "na_values='%.10g' if it stands for a missing value",
                *(source, name, value, rows, first, value),
            )
        low, high = values.astype("float64").quantile([0.25, 0.75])
        if not found and 0 < high - low < values.std() / _TIMES:
            row = row_of(values.abs() == values.abs().max())
            logger.warning(
                "%s: column %r has %g in row %d below the header, next to which all its other values are nearly equal",
                *(source, name, values.iloc[row - 1], row),
            )
