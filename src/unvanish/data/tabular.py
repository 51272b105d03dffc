"""Tables: a file, or a data set of scikit-learn."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, final

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_float_dtype, is_integer_dtype
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from unvanish.data.columns import IS_ID, differing_in_case, holds_numbers, names_rows, parsed, row_of
from unvanish.data.encoding import Encoding
from unvanish.data.features import FeatureCoder
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.outliers import in_words, say_outliers
from unvanish.data.splits import Integers, split
from unvanish.data.summary import ColumnNote, column_table
from unvanish.data.table_encoding import Table
from unvanish.data.table_file import SUFFIXES, TableFormat, read_table, suffix_of
from unvanish.names import lookup, nearest

logger = logging.getLogger(__name__)

DATASETS: dict[str, dict[str, bool]] = {"breast_cancer": {}, "wine": {}, "iris": {}, "diabetes": {"scaled": False}}
TASKS = ("auto", "binary", "multiclass", "regression")
_FEW = 1000  # rows


class _Read(NamedTuple):
    """Everything that is read from the file."""

    description: Description
    splits: Splits
    summary: str
    encoding: Encoding


@final
class Tabular(InMemoryData):
    """Rows of a table: x is (B, features).

    Numeric columns are imputed with the median and standardised, all others one-hot encoded, both fitted on the
    training rows; a category that these lack is all zeros. Class names are the sorted values of the target; in a binary
    task the second one is positive. The splits are stratified by class. What becomes of each column of a file is
    logged, and is ``summary``. A file that can be read in two ways is refused, with the row and the column.

    Args:
        dataset: breast_cancer, wine, iris or diabetes, from scikit-learn. Give this or ``path``.
        path: A .csv, .tsv or .parquet file, also compressed (.csv.gz), with a header.
        target: The column of ``path`` to predict, or several of numbers.
        columns: The features. None: all columns except those that name the rows, which are texts that differ in most
            rows, and whole numbers that differ in all rows and are called id, index, nr, no, number or row.
        ignore: Columns to leave out.
        categories: Numeric columns to one-hot encode, with their values as they are written.
        delimiter: The character between two fields; None for a comma, or a tab in .tsv.
        decimal: The decimal separator, a point or a comma.
        thousands: The thousands separator.
        encoding: The encoding of a text file.
        na_values: One or more texts or numbers that mean a missing value, besides an empty cell, NA, NaN, null and so
            on.
        task: binary, multiclass or regression. auto: two values are binary, texts and few whole numbers multiclass,
            other numbers regression.
        missing: impute or refuse missing values of features; a missing target is always refused.
        predict_path: A file of new rows to predict, with the features of the table; other columns are ignored.
            Without it the test split is predicted.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a file is not such a table.
        FileNotFoundError: There is no such file (on first use).
    """

    def __init__(
        self,
        dataset: Literal["breast_cancer", "wine", "iris", "diabetes"] | None = None,
        path: str | None = None,
        target: list[str] | str | None = None,
        columns: list[str] | None = None,
        ignore: list[str] | None = None,
        categories: list[str] | None = None,
        delimiter: str | None = None,
        decimal: str = ".",
        thousands: str | None = None,
        encoding: str = "utf-8",
        na_values: list[str] | str | None = None,
        task: Literal["auto", "binary", "multiclass", "regression"] = "auto",
        missing: Literal["impute", "refuse"] = "impute",
        predict_path: str | None = None,
        loading: Loading = Loading(validation_share=0.15),
    ) -> None:
        super().__init__(loading)
        self.source: str
        if dataset is not None and path is None and target is None:
            lookup("dataset", dataset, DATASETS)
            self.source, self.targets = dataset, ["target"]
        elif dataset is None and path is not None and target:
            self.source, self.targets = path, [target] if isinstance(target, str) else list(dict.fromkeys(target))
        else:
            given = f"dataset {dataset!r}, path {path!r}, target {target!r}"
            raise ValueError(f"give either dataset, or path and target, not {given}")
        for file in (path, predict_path):
            if file is not None:
                lookup("kind of file", suffix_of(file), SUFFIXES)
        lookup("task", task, dict.fromkeys(TASKS))
        self.is_file = path is not None
        self.wanted = columns
        self.ignored = ignore or []
        self.categories = categories or []
        self.form = TableFormat(delimiter, decimal, thousands, encoding, na_values)
        self.wanted_task = task
        self.imputes = lookup("treatment of missing values", missing, {"impute": True, "refuse": False})
        self.predict_path = predict_path

    @property
    def description(self) -> Description:
        """Known from the table, which is read on first use."""
        return self._table.description

    @property
    def summary(self) -> str:
        """A line for each column: its kind, its numbers of missing and of distinct values, and how it is used."""
        return self._table.summary

    @property
    def encoding(self) -> Encoding:
        """Rows with the same columns."""
        return self._table.encoding

    def read(self) -> Splits:
        """From the file, or from scikit-learn."""
        return self._table.splits

    @cached_property
    def _table(self) -> "_Read":
        frame = self._columns()
        targets = frame[self.targets]
        task = self._task_of(targets)
        features, left_out = self._features(frame)
        target = targets.iloc[:, 0]
        if task == "regression":
            labels, class_names = np.zeros(len(frame), dtype=int), None
            group_names = [self.source]
        else:
            labels, classes = pd.factorize(target.to_numpy(), sort=True)
            class_names = [str(value) for value in classes]
            group_names = [f"{self.source}, class {name!r}" for name in class_names]
        shares = (self.loading.validation_share, self.loading.test_share)
        parts = split(labels, group_names, shares, self.loading.split_seed)

        numbers = [name for name in features if holds_numbers(features[name])]
        say_outliers(frame[numbers + self.targets * (task == "regression")], self.source)
        coder = FeatureCoder.fit(features, parts[0], impute=self.imputes, source=self.source)
        x = coder(features, self.source)
        ids = [name for name, reason in left_out.items() if reason == IS_ID]
        encoding = Table(coder, self.form, self.targets, ids)
        predict: tuple[Tensor, ...] = ()
        rows = parts[2].tolist()
        carried: Mapping[str, Sequence[Any]] = {name: frame[name].iloc[parts[2]].tolist() for name in ids}
        if self.predict_path:
            encoded = encoding(self.predict_path)
            predict, rows, carried = (encoded.x,), [], encoded.carried
        shape = (x.shape[1],)
        if class_names is None:
            if 1 in map(len, parts):
                raise ValueError(f"{self.source}: {len(x)} rows are too few; R2 needs two in each split")
            y, mean, std = _standardised(targets, parts[0])
            description = Description(task, shape, len(self.targets), None, mean, std, self.targets)
        else:
            y = torch.tensor(labels, dtype=torch.float32 if task == "binary" else torch.int64)
            description = Description(task, shape, 1 if task == "binary" else len(class_names), class_names)
        train, validation, test = ((x[rows], y[rows]) for rows in parts)
        summary = self._summarized(frame, coder, left_out, description)
        if self.is_file:
            logger.info(summary)
        return _Read(description, Splits(train, validation, test, predict, rows, carried), summary, encoding)

    def _columns(self) -> pd.DataFrame:
        """All columns that may be used, as numbers and texts."""
        if not self.is_file:
            return _read_bundled(self.source)
        frame = read_table(self.source, self.form, self.categories)
        for name in (*self.targets, *(self.wanted or ()), *self.ignored, *self.categories):
            if name not in frame:
                raise ValueError(f"{self.source}: no column {name!r}{nearest(name, frame.columns.tolist())}")
        if both := {*self.ignored} & {*self.targets, *(self.wanted or ())}:
            raise ValueError(f"{self.source}: column {min(both)!r} is both ignored and asked for")
        if both := {*self.targets} & {*(self.wanted or ())}:
            raise ValueError(f"{self.source}: column {min(both)!r} is both a target and a feature")
        used = frame.columns if self.wanted is None else [*self.wanted, *self.targets]
        frame = frame[[name for name in frame if name in used and name not in self.ignored]]
        frame = parsed(frame, self.source, self.form, as_text=self.categories)
        for name in self.targets:
            if (missing := frame[name].isna()).any():
                where = f"{missing.sum()}, the first in row {row_of(missing)} below the header"
                raise ValueError(f"{self.source}: missing values in the target {name!r} ({where})")
        return frame

    def _features(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
        """The columns of the features, and for each other column the reason why it is left out."""
        features, target = frame.drop(columns=self.targets), frame[self.targets[0]]
        if not len(features.columns):
            raise ValueError(f"{self.source}: no column besides the target {', '.join(map(repr, self.targets))}")
        if not self.is_file or self.wanted is not None:
            return features, {}
        left_out = {}
        for name, column in features.items():
            if column.isna().all():
                left_out[str(name)] = "empty"
            elif reason := names_rows(column):
                left_out[str(name)] = reason
            elif column.equals(target):
                raise ValueError(f"{self.source}: column {name!r} repeats the target; ignore=[{name}] leaves it out")
            elif _tells(column, target):
                logger.warning(
                    "%s: column %r determines the target exactly; is it known at prediction time?", self.source, name
                )
            elif not holds_numbers(column) and (pair := differing_in_case(column)):
                logger.warning("%s: column %r has both %r and %r, the latter in row %d", self.source, name, *pair)
        if len(left_out) == len(features.columns):  # then a number may be meant
            left_out = {name: reason for name, reason in left_out.items() if not holds_numbers(features[name])}
        if len(left_out) == len(features.columns):
            reasons = ", ".join(f"{name!r} ({reason})" for name, reason in left_out.items())
            raise ValueError(f"{self.source}: no feature is left: {reasons}; columns=[...] includes them")
        return features.drop(columns=list(left_out)), left_out

    def _summarized(
        self, frame: pd.DataFrame, coder: FeatureCoder, left_out: dict[str, str], found: Description
    ) -> str:
        notes = []
        for name, column in frame.items():
            missing = column.isna()
            if name in self.targets:
                becomes = "target" + (in_words(column) if found.class_names is None else "")
            elif reason := left_out.get(str(name)):
                becomes = f"left out: {reason}"
            elif name in coder.numbers:
                becomes = "scaled" + in_words(column) + f"; filled, first row {row_of(missing)}" * bool(missing.any())
            else:
                becomes = f"one-hot, {coder.width_of(str(name))}"
            notes.append(ColumnNote(str(name), column, becomes))
        size = f"{len(frame)} rows, {found.input_shape[0]} inputs, {found.task}"
        if (repeated := _repeats(frame)).any():
            size += f"; {repeated.sum()} rows repeat another, the first row {row_of(repeated)}"
        return column_table(f"{self.source}: {size}", notes)

    def _task_of(self, targets: pd.DataFrame) -> str:
        """The task that was given or is guessed, after checking that the target fits it."""
        task: str = self.wanted_task
        if len(self.targets) > 1:
            if task not in ("auto", "regression"):
                raise ValueError(f"{self.source}: a {task} task has one target, not {len(self.targets)}")
            task = "regression"
        for name, target in targets.items():
            where = f"{self.source}: target {name!r}"
            if (distinct := target.nunique()) < 2:
                raise ValueError(f"{where} has only one value")
            if task == "auto":
                task = _guess(target)
                logger.info("%s has %d distinct values in %d rows: %s", where, distinct, len(target), task)
            if task == "binary" and distinct != 2:
                raise ValueError(f"{where} has {distinct} distinct values, a binary task needs 2")
            if task == "regression" and not holds_numbers(target):
                raise ValueError(f"{where} has values that are not numbers, which regression needs")
            if task != "regression" and not holds_numbers(target) and (pair := differing_in_case(target)):
                first, second, row = pair
                raise ValueError(f"{where} has both {first!r} and {second!r}, the latter in row {row} below the header")
        return task


def _guess(target: "pd.Series[Any]") -> str:
    distinct = target.nunique()
    if distinct == 2:
        return "binary"
    few = distinct <= min(20, len(target) // 10)
    return "multiclass" if not holds_numbers(target) or (is_integer_dtype(target) and few) else "regression"


def _tells(column: "pd.Series[Any]", target: "pd.Series[Any]") -> bool:
    """Whether each value of a column goes with one value of the target, and the column does not just name the rows."""
    for rows in (_FEW, len(column)):  # a few tell most columns apart
        if not np.array_equal(pd.factorize(column.iloc[:rows])[0], pd.factorize(target.iloc[:rows])[0]):
            return False
    return bool(column.nunique() < len(column) / 2)


def _repeats(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows repeat an earlier one; only rows with the same hash are compared."""
    hashes: Any = np.zeros(len(frame), dtype=np.uint64)
    for column in map(frame.__getitem__, frame):
        values = column + 0.0 if is_float_dtype(column) else column  # of two zeros with different signs
        hashes = hashes * np.uint64(31) + pd.util.hash_pandas_object(values, index=False).to_numpy()
    candidates = frame[pd.Series(hashes, index=frame.index).duplicated(keep=False)]
    return candidates.duplicated().reindex(frame.index, fill_value=False)


def _standardised(targets: pd.DataFrame, train: Integers) -> tuple[Tensor, Tensor, Tensor]:
    """The targets (N, D), standardised by the training rows, with the mean (D,) and the std (D,) of these."""
    columns = targets.to_numpy(dtype=float)
    scaler = StandardScaler().fit(columns[train])
    y, mean, std = scaler.transform(columns), scaler.mean_, scaler.scale_
    return torch.tensor(y, dtype=torch.float32), torch.tensor(mean).float(), torch.tensor(std).float()


def _read_bundled(name: str) -> pd.DataFrame:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **DATASETS[name])
    frame: pd.DataFrame = bunch.frame
    return frame.assign(target=bunch.target_names[frame["target"]]) if "target_names" in bunch else frame
