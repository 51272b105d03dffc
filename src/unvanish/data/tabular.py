"""Rows and columns: a file, or a table that scikit-learn carries."""

import logging
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_integer_dtype
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from unvanish.data.features import FeatureCoder, holds_numbers
from unvanish.data.module import Description, InMemoryData
from unvanish.data.splits import Integers, Splits, split
from unvanish.names import lookup, nearest

logger = logging.getLogger(__name__)


def _read_csv(path: str, separator: str = ",") -> pd.DataFrame:
    frame = pd.read_csv(path, sep=separator, low_memory=False)
    # pandas takes the first fields of a row for its labels where there are more of them than names.
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError("its rows have more fields than its header")
    return frame


DATASETS = {
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
    "diabetes": partial(load_diabetes, scaled=False),
}
READERS: dict[str, Callable[[str], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, separator="\t"),
    ".parquet": pd.read_parquet,
}
TASKS = ("auto", "binary", "multiclass", "regression")


@final
class Tabular(InMemoryData):
    """Rows of a table: x is (B, features), all of them numbers.

    Columns of numbers are imputed by the median and standardised, all others coded one-hot, by what the training rows
    say alone; a category that they lack is all zeros. Class names are the sorted values of the target; in a binary
    task the second one is positive. Classes keep their share in every split.

    Args:
        dataset: breast_cancer, wine, iris or diabetes, from scikit-learn. Give this or ``path``.
        path: A .csv, .tsv or .parquet file, also compressed (.csv.gz), with a header.
        target: The column of ``path`` to predict.
        task: binary, multiclass or regression. auto: two values are binary, texts and few whole numbers multiclass,
            other numbers regression.
        missing: impute or refuse the missing values of features; one in the target is always refused.
        validation_share: Share of the rows to validate on, below 1; 0 leaves no validation split.
        test_share: Share of the rows to test on, between 0 and 1.
        predict_path: A file of new rows to predict, with the features of the table; other columns are ignored.
            Without it the test split is predicted.
        batch_size: Rows in a batch, on each device.
        seed: Fixes the order of the training batches.
        split_seed: Fixes which rows go to which split.
        device_resident: Keep the whole data set on the trainer's device.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a file is not such a table.
        FileNotFoundError: There is no such file (on first use).
    """

    def __init__(
        self,
        dataset: str | None = None,
        path: str | None = None,
        target: str | None = None,
        task: str = "auto",
        missing: str = "impute",
        validation_share: float = 0.15,
        test_share: float = 0.2,
        predict_path: str | None = None,
        batch_size: int = 32,
        seed: int = 0,
        split_seed: int = 0,
        device_resident: bool = False,
    ) -> None:
        super().__init__(
            validation_share=validation_share,
            batch_size=batch_size,
            seed=seed,
            split_seed=split_seed,
            device_resident=device_resident,
        )
        if dataset is not None and path is None and target is None:
            lookup("dataset", dataset, DATASETS)
            self.source, self.target = dataset, "target"
        elif dataset is None and path is not None and target is not None:
            self.source, self.target = path, target
        else:
            given = f"dataset {dataset!r}, path {path!r}, target {target!r}"
            raise ValueError(f"give either dataset, or path and target, not {given}")
        for file in (path, predict_path):
            if file is not None:
                lookup("kind of file", suffix_of(file), READERS)
        lookup("task", task, dict.fromkeys(TASKS))
        if not 0 < test_share < 1 - validation_share:
            raise ValueError(f"test_share must lie between 0 and 1 - validation_share, not {test_share}")
        self.is_file = path is not None
        self.wanted_task = task
        self.imputes = lookup("treatment of missing values", missing, {"impute": True, "refuse": False})
        self.test_share = test_share
        self.predict_path = predict_path

    @property
    def description(self) -> Description:
        """Known from the table, which is read on first use."""
        return self._table[0]

    def _read(self) -> Splits:
        return self._table[1]

    @cached_property
    def _table(self) -> tuple[Description, Splits]:
        frame = read_table(self.source) if self.is_file else _read_bundled(self.source)
        if self.target not in frame:
            raise ValueError(f"{self.source}: no column {self.target!r}{nearest(self.target, frame.columns.tolist())}")
        features, target = frame.drop(columns=self.target), frame[self.target]
        if not len(features.columns):
            raise ValueError(f"{self.source}: no column besides the target {self.target!r}")
        task = self._task_of(target)
        classes, labels = np.unique(target.to_numpy(), return_inverse=True)
        class_names = [str(value) for value in classes]
        if task == "regression":
            groups, group_names = np.zeros_like(labels), [self.source]
        else:
            groups, group_names = labels, [f"{self.source}, class {name!r}" for name in class_names]
        parts = split(groups, group_names, (self.validation_share, self.test_share), self.split_seed)

        coder = FeatureCoder(features, parts[0], impute=self.imputes, source=self.source)
        x = coder(features, self.source)
        predict = (coder(read_table(self.predict_path), self.predict_path),) if self.predict_path else ()
        shape = (x.shape[1],)
        if task == "regression":
            if 1 in map(len, parts):
                raise ValueError(f"{self.source}: {len(x)} rows are too few; R2 needs two in each split")
            y, mean, std = _standardised(target, parts[0])
            description = Description(task, shape, 1, None, mean, std, [self.target])
        else:
            y = torch.tensor(labels, dtype=torch.float32 if task == "binary" else torch.int64)
            description = Description(task, shape, 1 if task == "binary" else len(class_names), class_names)
        train, validation, test = ((x[rows], y[rows]) for rows in parts)
        return description, Splits(train, validation, test, predict, () if predict else parts[2].tolist())

    def _task_of(self, target: "pd.Series[Any]") -> str:
        """The task that was asked for or is guessed, once the target allows it."""
        where = f"{self.source}: target {self.target!r}"
        missing = np.flatnonzero(target.isna())
        if missing.size:
            raise ValueError(f"{where} lacks {missing.size} values, the first in row {missing[0] + 1} below the header")
        distinct = target.nunique()
        if distinct < 2:
            raise ValueError(f"{where} has one value only")
        task = self.wanted_task
        if task == "auto":
            task = _guess(target)
            logger.info("%s has %d distinct values in %d rows: %s", where, distinct, len(target), task)
        if task == "binary" and distinct != 2:
            raise ValueError(f"{where} has {distinct} distinct values, a binary task needs 2")
        if task == "regression" and not (holds_numbers(target) and np.isfinite(target.to_numpy(dtype=float)).all()):
            raise ValueError(f"{where} holds other values than finite numbers, which regression needs")
        return task


def _guess(target: "pd.Series[Any]") -> str:
    distinct = target.nunique()
    if distinct == 2:
        return "binary"
    few = distinct <= min(20, len(target) // 10)
    return "multiclass" if not holds_numbers(target) or (is_integer_dtype(target) and few) else "regression"


def _standardised(target: "pd.Series[Any]", train: Integers) -> tuple[Tensor, Tensor, Tensor]:
    """The targets (N, 1), standardised by the training rows, and the mean (1,) and standard deviation (1,) of these."""
    column = target.to_numpy(dtype=float)[:, np.newaxis]
    scaler = StandardScaler().fit(column[train])
    y, mean, std = scaler.transform(column), scaler.mean_, scaler.scale_
    return torch.tensor(y, dtype=torch.float32), torch.tensor(mean).float(), torch.tensor(std).float()


def _read_bundled(name: str) -> pd.DataFrame:
    bunch = DATASETS[name](as_frame=True)
    frame: pd.DataFrame = bunch.frame
    return frame.assign(target=bunch.target_names[frame["target"]]) if "target_names" in bunch else frame


def read_table(path: str) -> pd.DataFrame:
    """The rows of a file; there is one at least.

    Raises:
        ValueError: The file cannot be read as what its name says, or has no rows.
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        frame = READERS[suffix_of(path)](path)
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"cannot read {path}: {reason}") from error
    if not len(frame):
        raise ValueError(f"{path}: no rows")
    return frame


def suffix_of(path: str) -> str:
    """What kind of file it is: ``.csv``, also of a compressed one."""
    return Path(path.removesuffix(".gz")).suffix
