"""metrics.csv: rows are appended whole, and a resumed run continues after its earlier rows."""

import csv
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from unvanish.command.processes import is_first

NAME = "metrics.csv"


@final
class MetricsTable(CSVLogger):
    """Lightning's CSVLogger, except that it never rewrites the file in place and continues an existing file.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.parent, "", folder.name)
        self._folder = folder
        self._rows = _Rows(folder) if is_first() else None
        self._experiment = self._rows

    @property
    def rows(self) -> int:
        """The number of rows in the file, after writing all that are waiting."""
        if self._rows is None:
            return 0
        self._rows.save()
        return self._rows.written

    def keep(self, count: int) -> None:
        """Drop all but the first rows: a killed run had written further than its checkpoint is."""
        path = self._folder / NAME
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            _replace(path, rows[:1], rows[1 : count + 1])
            self._rows = self._experiment = _Rows(self._folder)


def _replace(path: Path, header: list[list[str]], rows: list[list[str]]) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*header, *rows])
    unfinished.replace(path)


@final
class _Rows(ExperimentWriter):
    """The writer of the logger."""

    def __init__(self, folder: Path) -> None:
        self.metrics: list[dict[str, Any]] = []
        self.hparams: dict[str, Any] = {}
        self.log_dir, self._path = str(folder), folder / NAME
        self.metrics_keys, self.written = [], 0
        if self._path.is_file():
            with self._path.open(encoding="utf-8", newline="") as file:
                self.metrics_keys, *rows = list(csv.reader(file)) or [[]]
            self.written = len(rows)

    def save(self) -> None:
        """Append the waiting rows; if one of them has a new column, write a new file in place of the old one."""
        if not self.metrics:
            return
        before = self.metrics_keys
        keys = sorted({*before, *(key for row in self.metrics for key in row)})
        if keys != before:
            old: list[list[str]] = []
            if self._path.is_file():
                with self._path.open(encoding="utf-8", newline="") as file:
                    known = list(csv.DictReader(file))
                old = [[row.get(key) or "" for key in keys] for row in known]
            _replace(self._path, [keys], old)
            self.metrics_keys = keys
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, fieldnames=keys).writerows(self.metrics)
        self.written += len(self.metrics)
        self.metrics = []
