"""Encodes the end of a series as x."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import pandas as pd
import torch

from unvanish.data.encoding import Encoded
from unvanish.data.table_file import TableFormat, read_table
from unvanish.data.timetable import last_window, numbers_in_time


@final
@dataclass(frozen=True)
class TimeTable:
    """Encodes the last window of a series, given oldest row first as a data frame, a file or an array (N, F).

    Args:
        columns: Names of the F columns of x.
        targets: The columns among them that are forecast.
        date: The column of dates; None to detect it.
        form: The format of a file.
        window: Rows in x.
        horizon: Number of rows to forecast.
        relative: Whether the network forecasts changes from the last row.
        mean: (F,) means of the columns in the training rows.
        std: (F,) the scale by which they are then divided.
    """

    columns: list[str]
    targets: list[str]
    date: str | None
    form: TableFormat
    window: int
    horizon: int
    relative: bool
    mean: list[float]
    std: list[float]

    def __call__(self, inputs: Any) -> Encoded:
        """Encode the end of a series."""
        source = str(inputs) if isinstance(inputs, str | Path) else "the series"
        if isinstance(inputs, str | Path):
            table = read_table(source, self.form)
        elif isinstance(inputs, pd.DataFrame):
            table = inputs
        else:
            table = pd.DataFrame(np.asarray(inputs).reshape(-1, len(self.columns)), columns=self.columns)
        known = self.date if self.date is not None and self.date in table else None
        rows = numbers_in_time(table, source, self.targets, self.columns, known, form=self.form)
        values = last_window(rows, self.window, source)
        x = torch.from_numpy((values - np.array(self.mean)) / np.array(self.std))
        base = None
        if self.relative:
            places = [self.columns.index(name) for name in self.targets]
            x[:, places] -= x[-1:, places].clone()
            base = torch.tensor(values[-1, places]).repeat(self.horizon)[None]
        return Encoded(x.float()[None], {}, base)

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild it from the values of ``plain``."""
        return cls(**{**plain, "form": TableFormat(**plain["form"])})
