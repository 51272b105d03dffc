"""The columns of a table as one matrix of numbers."""

from typing import Any, final

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from unvanish.names import nearest


@final
class FeatureCoder:
    """Standardises the columns of numbers and codes all others one-hot, by what the training rows say alone.

    A missing number becomes the median, a missing text is a category of its own, and a category that the training rows
    lack is all zeros.

    Args:
        table: All rows of the features.
        rows: The training rows among them.
        impute: False refuses missing values.
        source: Where the table comes from, for refusals.

    Raises:
        ValueError: The table holds infinite values, or missing ones against ``impute``.
    """

    def __init__(self, table: pd.DataFrame, rows: Any, *, impute: bool, source: str) -> None:
        self.source = source
        self.impute = impute
        self.columns = table.columns.tolist()
        self.numbers = [name for name in table if holds_numbers(table[name])]
        texts = [name for name in table if name not in self.numbers]
        # An imputer drops a column without any value unless told to keep it, and x would change its width.
        scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self.transformer = ColumnTransformer([("numbers", scaled, self.numbers), ("texts", one_hot, texts)])
        self.transformer.fit(self._checked(table, source).iloc[rows])

    def __call__(self, table: pd.DataFrame, source: str) -> Tensor:
        """Code a table with the same columns, in any order and among others.

        Returns:
            x: float32 (rows, features).

        Raises:
            ValueError: A column is absent, or holds what it must not.
        """
        for name in self.columns:
            if name not in table:
                raise ValueError(
                    f"{source}: no column {name!r}{nearest(name, table.columns.tolist())} ({self.source} has one)"
                )
        checked = self._checked(table[self.columns], source)
        return torch.tensor(self.transformer.transform(checked), dtype=torch.float32)

    def _checked(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """The table with numbers as float64 and all else as text; what is missing stays missing."""
        for name in self.numbers:
            if not holds_numbers(table[name]):
                raise ValueError(f"{source}: column {name!r} must hold numbers, as it does in {self.source}")
        checked = pd.DataFrame({name: self._plain(table[name]) for name in self.columns})
        _refuse(checked[self.numbers].abs() == np.inf, f"{source}: infinite values")
        if not self.impute:
            _refuse(checked.isna(), f"{source}: missing values")
        return checked

    def _plain(self, column: "pd.Series[Any]") -> "pd.Series[Any]":
        if column.name in self.numbers:
            return column.astype("float64")
        return column.astype(object).map(str, na_action="ignore")


def holds_numbers(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers; booleans are categories."""
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def _refuse(found: pd.DataFrame, what: str) -> None:
    counts = found.sum()
    if counts.any():
        columns = ", ".join(f"{name!r} ({count})" for name, count in counts.items() if count)
        raise ValueError(f"{what} in {columns}")
