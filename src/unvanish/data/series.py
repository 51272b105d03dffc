"""Windows over time series: a file, or a series that comes with the package."""

import logging
from functools import cached_property
from typing import Any, Literal, NamedTuple, final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.data.bundled_series import DATASETS
from unvanish.data.columns import TOO_FAR, row_of
from unvanish.data.encoding import Encoding
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.outliers import in_words
from unvanish.data.series_encoding import TimeTable
from unvanish.data.splits import Integers
from unvanish.data.summary import ColumnNote, column_table
from unvanish.data.table_file import SUFFIXES, TableFormat, read_table, suffix_of
from unvanish.data.timetable import Floats, interpolated, last_window, numbers_in_time
from unvanish.names import lookup

logger = logging.getLogger(__name__)


class _Scaled(NamedTuple):
    """Means and scales in the training rows: of the features (F,) and of the outputs (horizon * targets,)."""

    mean: Floats
    std: Floats
    target_mean: Floats
    target_std: Floats


@final
class Series(InMemoryData):
    """Windows of a series, to forecast what follows: x is (B, window, features), y (B, horizon * targets).

    y holds the targets of the first step, then those of the second, and so on. The last rows are the test split, those
    before them the validation split, and the first ones the training split: the targets of a window lie in one split,
    its inputs may reach back into the one before. All columns are standardised by the training rows. The rows must be
    in time order.

    ``relative`` takes the last value of the window from the targets and from their columns in x (NLinear, Zeng et al.
    2023), so that a trend goes on where a network of levels would have to extrapolate. y is then the standardised
    change from that value, ``r2`` tells how much of the change is explained, and predictions are levels again.

    The baselines are the RMSE of two forecasts over the same windows (Hyndman and Athanasopoulos, section 5.2): naive
    repeats the last value, seasonal naive the value one period before.

    To predict is to forecast the ``horizon`` steps after the last row of the file, or of ``predict_path``: one row.

    Args:
        dataset: sunspots (yearly) or co2 (weekly), which come with the package. Give this or ``path``.
        path: A .csv, .tsv or .parquet file, also compressed (.csv.gz), with a header, oldest row first.
        targets: The columns of ``path`` to forecast.
        features: The columns of x, in addition to the targets. None for every numeric column.
        date: The column of dates, which must increase and are no feature. None finds one that is called date, datetime,
            timestamp, time or year, or that holds dates like 1958-03, 03/29/1958, 29.03.1958 or 19580329. Where it
            repeats itself, columns called month, day, hour and alike say the rest.
        ignore: Columns to leave out.
        delimiter: The character between two fields; None for a comma, or a tab in .tsv.
        decimal: The decimal separator, a point or a comma.
        thousands: The thousands separator.
        encoding: The encoding of a text file.
        na_values: One or more texts or numbers that mean a missing value, besides an empty cell, NA, NaN, null and so
            on.
        window: Rows in x.
        horizon: Rows in y.
        relative: Forecast the change from the window's last value.
        seasonal_period: Rows in a period; None for that of ``dataset``, or for no seasonal baseline of a file.
        missing: interpolate or refuse missing values. What is interpolated stands in x, but never in its last row,
            which would know of the answer, nor in y: such windows are left out.
        predict_path: A file with the same columns whose continuation to predict.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a file is not such a series.
        FileNotFoundError: There is no such file (on first use).
    """

    def __init__(
        self,
        dataset: Literal["sunspots", "co2"] | None = None,
        path: str | None = None,
        targets: list[str] | None = None,
        features: list[str] | None = None,
        date: str | None = None,
        ignore: list[str] | None = None,
        delimiter: str | None = None,
        decimal: str = ".",
        thousands: str | None = None,
        encoding: str = "utf-8",
        na_values: list[str] | str | None = None,
        window: PositiveInt = 32,
        horizon: PositiveInt = 1,
        relative: bool = False,
        seasonal_period: PositiveInt | None = None,
        missing: Literal["interpolate", "refuse"] = "interpolate",
        predict_path: str | None = None,
        loading: Loading = Loading(validation_share=0.15),
    ) -> None:
        check_bounds(Series, locals())
        validation_share, test_share = loading.validation_share, loading.test_share
        for name, share in (("validation_share", validation_share), ("test_share", test_share)):
            if not (share >= 1 if isinstance(share, int) else 0 < share < 1):
                raise ValueError(f"{name} must lie between 0 and 1, or be a whole number of rows, not {share}")
        if isinstance(validation_share, float) and isinstance(test_share, float):
            loading.check_shares(needs_test=True)
        super().__init__(loading, unused=("split_seed",), takes_counts=True)
        self.source: str
        if dataset is not None and path is None and targets is None:
            bundled = lookup("dataset", dataset, DATASETS)
            self.source, self.targets = dataset, [bundled.target]
            seasonal_period = bundled.period if seasonal_period is None else seasonal_period
        elif dataset is None and path is not None and targets:
            self.source, self.targets = path, list(dict.fromkeys(targets))
        else:
            given = f"dataset {dataset!r}, path {path!r}, targets {targets!r}"
            raise ValueError(f"give either dataset, or path and targets, not {given}")
        for file in (path, predict_path):
            if file is not None:
                lookup("kind of file", suffix_of(file), SUFFIXES)
        if relative and window < 2:
            raise ValueError(f"window is {window}; it must be at least 2 if relative")
        self.is_file = path is not None
        self.features = features
        self.date = date
        self.ignored = ignore or []
        self.form = TableFormat(delimiter, decimal, thousands, encoding, na_values)
        self.window = window
        self.horizon = horizon
        self.relative = relative
        self.seasonal_period = seasonal_period
        self.interpolates = lookup("treatment of missing values", missing, {"interpolate": True, "refuse": False})
        self.predict_path = predict_path

    @property
    def description(self) -> Description:
        """Known from the file, which is read on first use."""
        mean, std = torch.tensor(self._scaled.target_mean).float(), torch.tensor(self._scaled.target_std).float()
        steps = [f"+{step}" for step in range(1, self.horizon + 1)]
        names = [name + step for step in steps for name in self.targets]
        return Description("regression", (self.window, self._columns.shape[1]), len(mean), None, mean, std, names)

    @property
    def summary(self) -> str:
        """A line for each column of x: its numbers of missing and of distinct values, and how it is used."""
        notes = [
            ColumnNote(str(name), column, "scaled" + ", target" * (name in self.targets) + in_words(column))
            for name, column in self._columns.items()
        ]
        return column_table(f"{self.source}: {len(self._columns)} rows", notes)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """``rmse_naive``, and ``rmse_seasonal_naive`` where there is a period, of ``val`` and ``test``, in units."""
        periods = {"rmse_naive": 1}
        if self.seasonal_period is not None:
            periods["rmse_seasonal_naive"] = self.seasonal_period
        stages = {"val": self._ends[1], "test": self._ends[2]}
        return {
            stage: {name: self._rmse_of_repeating(period, ends) for name, period in periods.items()}
            for stage, ends in stages.items()
        }

    def _rmse_of_repeating(self, period: int, ends: Integers) -> float:
        """The RMSE of forecasting each row by the latest known row that is a whole number of periods earlier."""
        steps = np.arange(1, self.horizon + 1)
        before = steps - period * -(-steps // period)
        return float(np.sqrt(np.mean((self._answers[ends[:, np.newaxis] + before] - self._after(ends)) ** 2)))

    def in_units(self, outputs: Tensor) -> Tensor:
        """The forecast (1, D) in the targets' own units; if ``relative``, on the last value of the rows to predict."""
        values = super().in_units(outputs)
        if not self.relative:
            return values
        last = self._to_predict[-1, self._places]
        return (values.double() + torch.tensor(last).repeat(self.horizon)).float()

    @property
    def encoding(self) -> Encoding:
        """The encoding of the last window of a series."""
        columns = self._columns.columns.tolist()
        scaled = {"mean": self._scaled.mean.tolist(), "std": self._scaled.std.tolist()}
        return TimeTable(
            columns, self.targets, self.date, self.form, self.window, self.horizon, self.relative, **scaled
        )

    def read(self) -> Splits:
        """Cut the windows."""
        windows = self._windows(self._filled)
        train, validation, test = ((self._x(windows, ends), self._y(ends)) for ends in self._ends)
        predict = self._x(self._windows(self._to_predict), np.array([self.window - 1]))
        if self.is_file:
            logger.info(self.summary)
        return Splits(train, validation, test, (predict,))

    def _windows(self, rows: Floats) -> Tensor:
        """Every window of the scaled rows, a view (N, window, F)."""
        scaled = torch.from_numpy((rows - self._scaled.mean) / self._scaled.std)
        if not (distance := scaled.abs().amax()) < TOO_FAR:
            raise ValueError(f"{self.source}: a value is {distance:.0e} standard deviations from the training rows")
        return _unfolded(scaled if self.relative else scaled.float(), self.window)

    def _x(self, windows: Tensor, ends: Integers) -> Tensor:
        """The windows whose last rows are ``ends``; a view if no window is left out and nothing is subtracted."""
        first, last = ends[0] - self.window + 1, ends[-1] - self.window + 1
        x = windows[first : last + 1] if last - first + 1 == len(ends) else windows[ends - self.window + 1]
        if self.relative:
            x = x.clone()
            x[:, :, self._places] -= x[:, -1:, self._places]
        return x.float()

    def _y(self, ends: Integers) -> Tensor:
        y = (self._changes(ends) - self._scaled.target_mean) / self._scaled.target_std
        return torch.from_numpy(y).float()

    def _changes(self, ends: Integers) -> Floats:
        """The values to forecast (N, horizon * targets), or their changes if ``relative``."""
        base = self._answers[ends][:, np.newaxis] if self.relative else 0.0
        return (self._after(ends) - base).reshape(len(ends), -1)

    def _after(self, ends: Integers) -> Floats:
        """The targets (N, horizon, targets) that follow the rows ``ends``."""
        after: Floats = self._answers[ends[:, np.newaxis] + np.arange(1, self.horizon + 1)]
        return after

    @cached_property
    def _scaled(self) -> _Scaled:
        """Means and standard deviations of the known values in the training part; constants are divided by one."""
        train, ends = self._columns.to_numpy()[: self._sizes[0]], self._ends[0]
        mean, std = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
        if self.relative:
            windows = _unfolded(torch.from_numpy(self._answers), self.window)[ends - self.window + 1]
            std[self._places] = (windows - windows[:, -1:]).square().mean(dim=(0, 1)).sqrt().numpy()
            changes = self._changes(ends)
            target_mean, target_std = changes.mean(axis=0), changes.std(axis=0)
        else:
            target_mean, target_std = (np.tile(value[self._places], self.horizon) for value in (mean, std))
        rounding = 10 * np.finfo(float).eps * np.nanmax(np.abs(train), axis=0)  # all that a constant may differ by
        std[std <= rounding] = target_std[target_std <= np.tile(rounding[self._places], self.horizon)] = 1
        return _Scaled(mean, std, target_mean, target_std)

    @cached_property
    def _ends(self) -> list[Integers]:
        """The last input rows of the windows of each part, except where that row or a target has missing values."""
        known = self._columns.notna().to_numpy()
        steps = np.arange(1, self.horizon + 1)
        stops = np.cumsum(self._sizes)
        parts, left_out = [], 0
        for name, start, stop in zip(("training", "validation", "test"), [self.window, *stops[:2]], stops, strict=True):
            ends = np.arange(start - 1, stop - self.horizon)
            asked = known[:, self._places][ends[:, np.newaxis] + steps]
            kept = ends[known[ends].all(axis=1) & asked.all(axis=(1, 2))]
            if len(kept) < 2:
                raise ValueError(
                    f"{self.source}: missing values leave {len(kept)} of {len(ends)} windows of the {name} part; "
                    f"two are needed"
                )
            left_out += len(ends) - len(kept)
            parts.append(kept)
        if left_out:
            logger.info(
                "%s: %d windows that end with a missing value or have one to forecast are left out",
                self.source,
                left_out,
            )
        return parts

    @cached_property
    def _sizes(self) -> list[int]:
        """The numbers of training, validation and test rows."""
        rows = len(self._columns)
        shares = (self.loading.validation_share, self.loading.test_share)
        validation, test = (share if isinstance(share, int) else round(share * rows) for share in shares)
        sizes = {"training": rows - validation - test, "validation": validation, "test": test}
        for part, size in sizes.items():
            own, rest, length = 0, "", ""
            if part == "training":
                own, length = self.window, f" of {self.window} rows"
                rest = f" ({validation} of {rows} validate, {test} test)"
            if size < (need := own + self.horizon + 1):
                raise ValueError(
                    f"{self.source}: the {part} part has {max(size, 0)} rows{rest}; "
                    f"two windows{length} with a horizon of {self.horizon} need {need}"
                )
        if self.seasonal_period is not None and self.seasonal_period > sizes["training"]:
            raise ValueError(
                f"{self.source}: seasonal_period {self.seasonal_period} is longer than the training part "
                f"of {sizes['training']} rows"
            )
        return list(sizes.values())

    @cached_property
    def _columns(self) -> pd.DataFrame:
        """The columns of x, (N, F); missing values are NaN."""
        table = read_table(self.source, self.form) if self.is_file else DATASETS[self.source].read(self.source)
        return self._checked(table, self.source, self.features)

    def _checked(self, table: pd.DataFrame, source: str, features: list[str] | None) -> pd.DataFrame:
        ignored = [name for name in self.ignored if name in table or source == self.source]
        columns = numbers_in_time(table, source, self.targets, features, self.date, ignore=ignored, form=self.form)
        missing = {name: rows for name, rows in columns.isna().items() if rows.any()}
        for name, rows in missing.items():
            if rows.all():
                raise ValueError(f"{source}: column {name!r} has no values")
        if missing:
            counts = ", ".join(f"{name!r} ({rows.sum()}, row {row_of(rows)} first)" for name, rows in missing.items())
            if not self.interpolates:
                raise ValueError(f"{source}: missing values in {counts}")
            logger.info("%s: missing values are interpolated in %s", source, counts)
        return columns

    @cached_property
    def _places(self) -> list[Any]:
        """The positions of the targets among the columns."""
        return [self._columns.columns.get_loc(name) for name in self.targets]

    @cached_property
    def _filled(self) -> Floats:
        return interpolated(self._columns)

    @cached_property
    def _answers(self) -> Floats:
        """The columns of the targets, (N, targets)."""
        answers: Floats = self._filled[:, self._places]
        return answers

    @cached_property
    def _to_predict(self) -> Floats:
        """The last window, (window, F)."""
        if self.predict_path is None:
            return self._filled[-self.window :]
        table = read_table(self.predict_path, self.form)
        columns = self._checked(table, self.predict_path, self._columns.columns.tolist())
        return last_window(columns, self.window, self.predict_path)


def _unfolded(rows: Tensor, window: int) -> Tensor:
    """All windows of rows (N, F), as a view (N - window + 1, window, F)."""
    return rows.unfold(0, window, 1).transpose(1, 2)
