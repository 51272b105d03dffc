"""Encodes the rows of a new table as x."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import pandas as pd

from unvanish.data.columns import parsed
from unvanish.data.encoding import TRUTH, Encoded
from unvanish.data.features import FeatureCoder
from unvanish.data.outliers import say_outliers
from unvanish.data.table_file import TableFormat, read_table


@final
@dataclass(frozen=True)
class Table:
    """Encodes data frames, files, and arrays (N, F) in the order of the columns.

    Args:
        coder: The encoding of the columns.
        form: The format of a file.
        targets: The target columns; a table that has them gives the truth.
        ids: Columns that name the rows.
    """

    coder: FeatureCoder
    form: TableFormat
    targets: list[str]
    ids: list[str]

    def __call__(self, inputs: Any) -> Encoded:
        """Encode at least one row."""
        source = str(inputs) if isinstance(inputs, str | Path) else "the table"
        if isinstance(inputs, str | Path):
            table = read_table(source, self.form, self.coder.texts)
        elif isinstance(inputs, pd.DataFrame | Mapping | list):
            table = pd.DataFrame(inputs).reset_index(drop=True).rename(columns=str)
        else:
            values = np.asarray(inputs)
            if values.ndim != 2 or values.shape[1] != len(self.coder.columns):
                raise ValueError(f"an array needs {len(self.coder.columns)} columns: {', '.join(self.coder.columns)}")
            table = pd.DataFrame(values, columns=self.coder.columns)
        if not len(table):
            raise ValueError(f"{source}: no rows")
        rows = parsed(
            self.coder.select(table, source),
            source,
            self.form,
            as_text=self.coder.texts,
            as_number=self.coder.numbers,
        )
        self.coder.say_what_is_unknown(rows, source)
        say_outliers(rows[self.coder.numbers], source)
        carried = {name: table[name].tolist() for name in self.ids if name in table}
        for name in self.targets:
            if name in table:
                carried[TRUTH if len(self.targets) == 1 else f"{TRUTH}_{name}"] = table[name].tolist()
        return Encoded(self.coder(rows, source), carried)

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and JSON."""
        return {"coder": self.coder.plain(), "form": asdict(self.form), "targets": self.targets, "ids": self.ids}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild it from the values of ``plain``."""
        form = TableFormat(**plain["form"])
        return cls(FeatureCoder.from_plain(plain["coder"]), form, plain["targets"], plain["ids"])
