"""What turns the end of a series into x."""

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
    """Takes the rows of a series, oldest first, as data frames, files or arrays (N, F): the last window is x.

    Args:
        columns: The columns in x.
        targets: Those among them that are forecast.
        date: The column of dates; None finds it.
        form: How a file is written.
        window: Rows in x.
        horizon: Rows that are forecast.
        relative: Whether the change from the last row is.
        mean: (F,) what the columns are centred by.
        std: (F,) and divided by.
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
        """All that it knows."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The other way."""
        return cls(**{**plain, "form": TableFormat(**plain["form"])})
