"""The series that come with the package."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Bundled(NamedTuple):
    """A series in ``bundled/``: its target, how many rows are a period, and its column of dates, where it has one."""

    target: str
    period: int
    date: str | None = None

    def read(self, name: str) -> pd.DataFrame:
        """The table, oldest row first."""
        path = Path(__file__).parent / "bundled" / f"{name}.csv"
        return pd.read_csv(path, parse_dates=[self.date] if self.date else [])


DATASETS = {"sunspots": Bundled("SUNACTIVITY", 11), "co2": Bundled("co2", 52, "date")}
