"""The columns of a table as one matrix of numbers."""

import logging
from typing import Any, final

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from unvanish.data.columns import TOO_FAR, holds_numbers, row_of, say_what_dwarfs
from unvanish.names import nearest

logger = logging.getLogger(__name__)

MOST_CATEGORIES = 1000  # of a column
_MOST_CELLS = 2**28  # of all one-hot columns, 1 GiB
_FAR = 1e3  # standard deviations from the training rows


@final
class FeatureCoder:
    """Standardises the columns of numbers and codes all others one-hot, by what the training rows say alone.

    A missing number becomes the median, a missing text is a category of its own, and a category that the training rows
    lack is all zeros.

    Args:
        table: All rows of the features, as ``parsed`` gives them.
        rows: The training rows among them.
        impute: False refuses missing values.
        source: Where the table comes from, for refusals.

    Raises:
        ValueError: A column has too many categories, or missing values against ``impute``.
    """

    def __init__(self, table: pd.DataFrame, rows: Any, *, impute: bool, source: str) -> None:
        self.source = source
        self.impute = impute
        self.columns: list[str] = table.columns.tolist()
        self.numbers = [name for name in self.columns if holds_numbers(table[name])]
        self.texts = [name for name in self.columns if name not in self.numbers]
        categories = {name: table[name].nunique() for name in self.texts}
        for name, count in categories.items():
            if count > MOST_CATEGORIES:
                raise ValueError(
                    f"{source}: column {name!r} has {count} different texts, and at most {MOST_CATEGORIES} are coded; "
                    f"ignore=[{name}] leaves it out"
                )
        if (cells := len(table) * sum(categories.values())) > _MOST_CELLS:
            raise ValueError(f"{source}: {cells:.1e} numbers for the categories of {len(table)} rows are too many")
        # An imputer drops a column without any value unless told to keep it, and x would change its width.
        scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        self.transformer = ColumnTransformer([("numbers", scaled, self.numbers), ("texts", one_hot, self.texts)])
        self.transformer.fit(self._checked(table, source).iloc[rows])
        say_what_dwarfs(table[self.numbers], source)

    def __call__(self, table: pd.DataFrame, source: str) -> Tensor:
        """Code a table with the same columns, in any order and among others.

        Returns:
            x: float32 (rows, features).

        Raises:
            ValueError: A column is absent, or a number far from those of the training rows.
        """
        checked = self._checked(table[self.columns], source)
        coded = self.transformer.transform(checked)
        distance = np.abs(coded[:, : len(self.numbers)])
        for row, column in np.argwhere(~(distance < _FAR))[:1]:
            far = np.nanmax(distance)
            message = (
                f"{source}: column {self.numbers[column]!r} has {checked[self.numbers[column]].iloc[row]:g} in row "
                f"{row + 1} below the header, {distance[row, column]:.0e} standard deviations from the training rows"
            )
            if not far < TOO_FAR:
                raise ValueError(message)
            logger.warning(message)
        return torch.tensor(coded, dtype=torch.float32)

    def select(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """The columns of another table that are needed, in their order.

        Raises:
            ValueError: One is absent.
        """
        for name in self.columns:
            if name not in table:
                raise ValueError(
                    f"{source}: no column {name!r}{nearest(name, table.columns.tolist())} ({self.source} has one)"
                )
        return table[self.columns]

    def say_what_is_unknown(self, table: pd.DataFrame, source: str) -> None:
        """Log which categories of another table the training rows lack."""
        for name, known in zip(self.texts, self._categories, strict=True):
            texts = self._plain(table[name])
            if (unknown := ~texts.isin(known) & texts.notna()).any():
                row = row_of(unknown)
                logger.warning(
                    "%s: column %r has %d values that the training rows lack and that count as none of theirs, the "
                    "first %r in row %d below the header",
                    *(source, name, unknown.sum(), texts.iloc[row - 1], row),
                )

    @property
    def _categories(self) -> list[Any]:
        return list(self.transformer.named_transformers_["texts"].categories_) if self.texts else []

    def width_of(self, name: str) -> int:
        """How many columns of x a column becomes."""
        return 1 if name in self.numbers else len(self._categories[self.texts.index(name)])

    def _checked(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """The table with numbers as float64 and all else as text; what is missing stays missing."""
        checked = pd.DataFrame({name: self._plain(table[name]) for name in self.columns}, index=table.index)
        missing = checked.isna()
        if not self.impute and missing.to_numpy().any():
            columns = ", ".join(
                f"{name!r} ({missing[name].sum()}, the first in row {row_of(missing[name])})"
                for name in missing
                if missing[name].any()
            )
            raise ValueError(f"{source}: missing values in {columns}")
        return checked

    def _plain(self, column: "pd.Series[Any]") -> "pd.Series[Any]":
        if column.name in self.numbers:
            return column.astype("float64")
        return column.astype(object).map(str, na_action="ignore")
