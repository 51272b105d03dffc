"""The columns of a table as one matrix of numbers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from unvanish.data.columns import TOO_FAR, holds_numbers, row_of
from unvanish.data.splits import Integers
from unvanish.names import nearest

logger = logging.getLogger(__name__)

MOST_CATEGORIES = 1000  # of a column
_MOST_CELLS = 2**28  # of all one-hot columns, 1 GiB
_FAR = 1e3  # standard deviations from the training rows


class Scale(NamedTuple):
    """The median that fills the gaps of a numeric column, and the mean and standard deviation that scale it."""

    median: float
    mean: float
    std: float


@final
@dataclass(frozen=True, eq=False)
class FeatureCoder:
    """Standardises numeric columns and one-hot encodes all others, fitted on the training rows.

    A missing number becomes the median, a missing text is a category of its own, and a category that the training rows
    lack is all zeros. Numbers come first in x.

    Args:
        columns: Names of the features, in the order of the table.
        scales: The scale of each numeric column.
        categories: The categories of each other column, in the order of x; None stands for missing values.
        impute: Whether to fill missing values; if not, they are refused.
        source: The origin of the table, for messages.
    """

    columns: list[str]
    scales: Mapping[str, Scale]
    categories: Mapping[str, list[str | None]]
    impute: bool
    source: str

    @classmethod
    def fit(cls, table: pd.DataFrame, rows: Any, *, impute: bool, source: str) -> Self:
        """Fit to the training rows of a table that ``parsed`` has returned.

        Raises:
            ValueError: A column has too many categories, or missing values although ``impute`` is false.
        """
        columns = table.columns.tolist()
        numbers = [name for name in columns if holds_numbers(table[name])]
        texts = [name for name in columns if name not in numbers]
        counts = {name: table[name].nunique() for name in texts}
        for name, count in counts.items():
            if count > MOST_CATEGORIES:
                raise ValueError(
                    f"{source}: column {name!r} has {count} distinct texts, and at most "
                    f"{MOST_CATEGORIES} can be one-hot encoded; "
                    f"ignore=[{name}] leaves it out"
                )
        if (cells := len(table) * sum(counts.values())) > _MOST_CELLS:
            raise ValueError(
                f"{source}: one-hot encoding would take {cells:.1e} numbers for {len(table)} rows, which is too many"
            )
        unlearnt = cls(columns, dict.fromkeys(numbers, Scale(0, 0, 1)), {}, impute=impute, source=source)
        known = unlearnt._checked(table, source)
        scales: dict[str, Scale] = {}
        for name in numbers:
            values = known[name].to_numpy()[rows]
            there = values[~np.isnan(values)]
            median = float(np.median(there)) if len(there) else 0.0
            scaler = StandardScaler().fit(np.where(np.isnan(values), median, values)[:, None])
            scales[name] = Scale(median, float(scaler.mean_[0]), float(scaler.scale_[0]))
        categories: dict[str, list[str | None]] = {}
        for name in texts:
            values = known[name].iloc[rows]
            categories[name] = sorted(values.dropna().unique())
            categories[name] += [None] * int(values.isna().any())
        return cls(columns, scales, categories, impute=impute, source=source)

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers."""
        return [*self.scales]

    @property
    def texts(self) -> list[str]:
        """The other columns."""
        return [name for name in self.columns if name not in self.scales]

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and JSON."""
        return {
            "columns": self.columns,
            "scales": {name: list(scale) for name, scale in self.scales.items()},
            "categories": dict(self.categories),
            "impute": self.impute,
            "source": self.source,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild it from the values of ``plain``."""
        scales = {name: Scale(*scale) for name, scale in plain["scales"].items()}
        rest = {"impute": plain["impute"], "source": plain["source"]}
        return cls(plain["columns"], scales, plain["categories"], **rest)

    def __call__(self, table: pd.DataFrame, source: str) -> Tensor:
        """Encode a table that has these columns, in any order and among others.

        Returns:
            x: float32 (rows, features).

        Raises:
            ValueError: A column is missing, or a number is very far from those of the training rows.
        """
        checked = self._checked(table[self.columns], source)
        x = np.zeros((len(checked), sum(map(self.width_of, self.columns))), dtype=np.float32)
        # Column by column: all of them as float64 would be several times what x is.
        far: dict[int, tuple[str, float]] = {}
        largest = 0.0
        for place, name in enumerate(self.numbers):
            scaled = self._scaled(checked[name])
            distance = np.abs(scaled)
            if (is_far := ~(distance < _FAR)).any():
                far.setdefault(row_of(is_far), (name, distance[is_far][0]))
                largest = max(largest, np.nanmax(distance))
            if largest < TOO_FAR:
                x[:, place] = scaled
        if far:
            row, (name, deviations) = min(far.items())
            message = (
                f"{source}: column {name!r} has {checked[name].iloc[row - 1]:g} in row "
                f"{row} below the header, {deviations:.0e} standard deviations from the training rows"
            )
            if not largest < TOO_FAR:
                raise ValueError(message)
            logger.warning(message)
        place = len(self.numbers)
        for name in self.texts:
            codes = self._codes(checked[name])
            rows = np.flatnonzero(codes >= 0)
            x[rows, place + codes[rows]] = 1
            place += self.width_of(name)
        return torch.from_numpy(x)

    def _scaled(self, values: "pd.Series[Any]") -> NDArray[np.float64]:
        """A numeric column with gaps filled, standardised."""
        median, mean, std = self.scales[str(values.name)]
        numbers = values.to_numpy(dtype=np.float64, copy=True)
        numbers[np.isnan(numbers)] = median
        numbers -= mean
        numbers /= std
        return numbers

    def _codes(self, column: "pd.Series[Any]") -> Integers:
        """The index of each value among the categories of its column; -1 for values not in the training rows."""
        known = self.categories[str(column.name)]
        place = {value: i for i, value in enumerate(known) if value is not None}
        codes, texts = pd.factorize(column)
        places = [place.get(text, -1) for text in texts]
        return np.array([*places, known.index(None) if None in known else -1])[codes]

    def select(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """Select the features from another table, in order.

        Raises:
            ValueError: A feature is missing.
        """
        for name in self.columns:
            if name not in table:
                raise ValueError(
                    f"{source}: no column {name!r}{nearest(name, table.columns.tolist())} ({self.source} has one)"
                )
        return table[self.columns]

    def say_what_is_unknown(self, table: pd.DataFrame, source: str) -> None:
        """Log what of another table is filled, and which categories the training rows lack."""
        for name in self.columns:
            missing, known = table[name].isna(), self.categories.get(name, [])
            if missing.any() and None not in known:
                becomes = (
                    "become all zeros" if name in self.categories else f"are taken as {self.scales[name].median:g}"
                )
                logger.warning(
                    "%s: column %r has %d missing values, which %s, the first in row %d below the header",
                    *(source, name, missing.sum(), becomes, row_of(missing)),
                )
        for name, known in self.categories.items():
            texts = self._plain(table[name])
            if (unknown := ~texts.isin(known) & texts.notna()).any():
                row = row_of(unknown)
                logger.warning(
                    "%s: column %r has %d values that are not in the training rows and become all zeros, the "
                    "first %r in row %d below the header",
                    *(source, name, unknown.sum(), texts.iloc[row - 1], row),
                )

    def width_of(self, name: str) -> int:
        """The number of columns of x that a column is encoded as."""
        return 1 if name in self.scales else len(self.categories[name])

    def _checked(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """The table with numbers as float64 and everything else as text; missing values stay missing."""
        plain = {name: self._plain(table[name]) for name in self.columns}
        checked = pd.DataFrame(plain, index=table.index, copy=False)
        missing = None if self.impute else checked.isna()
        if missing is not None and missing.to_numpy().any():
            columns = ", ".join(
                f"{name!r} ({missing[name].sum()}, the first in row {row_of(missing[name])})"
                for name in missing
                if missing[name].any()
            )
            raise ValueError(f"{source}: missing values in {columns}")
        return checked

    def _plain(self, column: "pd.Series[Any]") -> "pd.Series[Any]":
        if column.name in self.scales:
            return column.astype("float64")
        codes, distinct = pd.factorize(column)
        texts: pd.Series[Any] = pd.Series([*map(str, distinct)], dtype=object, name=column.name)
        return texts.reindex(codes).set_axis(column.index)
