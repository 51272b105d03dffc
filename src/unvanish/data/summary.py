"""Summarizes in a few lines how each column of a table is used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype

from unvanish.data.columns import holds_numbers

_LINES, _PLAIN = 24, 4  # of columns, at most; of those that are scaled and no more, if there are others
_NAME, _BECOMES = 22, 32  # letters


@dataclass(frozen=True, eq=False)
class ColumnNote:
    """A column, and in a word or two how it is used."""

    name: str
    values: "pd.Series[Any]"
    becomes: str


def column_table(title: str, notes: Sequence[ColumnNote]) -> str:
    """The title, and a line for each column with its kind and its numbers of missing and of different values.

    Lines below the title are at most 80 characters wide. If there are many columns, only some are shown, and fewest of
    those that are simply scaled.
    """
    shown = list(notes)
    if len(notes) > _LINES:
        plain = [note for note in notes if note.becomes == "scaled"]
        first = [note for note in notes if note not in plain][: _LINES - _PLAIN] + plain[:_PLAIN]
        shown = [note for note in notes if note in first]
    rows = [("column", "kind", "missing", "distinct", "becomes")]
    rows += [
        (
            _cut(note.name, _NAME),
            _kind(note.values),
            str(note.values.isna().sum()),
            str(note.values.nunique()),
            _cut(note.becomes, _BECOMES),
        )
        for note in shown
    ]
    name, kind, missing, distinct, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{a:<{name}} {b:<{kind}} {c:>{missing}} {d:>{distinct}} {e}" for a, b, c, d, e in rows]
    if rest := Counter(
        note.becomes.partition(",")[0].partition(":")[0].partition(";")[0] for note in notes if note not in shown
    ):
        lines.append(
            f"and {len(notes) - len(shown)} more: " + ", ".join(f"{count} {what}" for what, count in rest.items())
        )
    return "\n".join([title, *lines])


def _kind(column: "pd.Series[Any]") -> str:
    if holds_numbers(column):
        return "number"
    return "boolean" if is_bool_dtype(column) else "date" if is_datetime64_any_dtype(column) else "text"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
