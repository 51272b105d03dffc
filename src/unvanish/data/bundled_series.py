"""The series that statsmodels carries."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from statsmodels.datasets import co2, sunspots


class Bundled(NamedTuple):
    """A series that statsmodels carries: how it is read, its target, and how many rows are a period."""

    read: Callable[[], pd.DataFrame]
    target: str
    period: int


DATASETS = {
    "sunspots": Bundled(lambda: sunspots.load_pandas().data, "SUNACTIVITY", 11),
    "co2": Bundled(lambda: co2.load_pandas().data.rename_axis("date").reset_index(), "co2", 52),
}
