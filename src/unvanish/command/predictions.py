"""A network's predictions as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from unvanish.command.errors import FailedError

#: What a spreadsheet takes for the beginning of a formula.
_RUN = ("=", "+", "-", "@", "\t", "\r")


def prediction_table(
    outputs: Tensor,
    task: str,
    *,
    class_names: Sequence[str] | None,
    target_names: Sequence[str] | None,
    carried: Mapping[str, Sequence[Any]] | None = None,
    rows: Sequence[Any] = (),
) -> pd.DataFrame:
    """Columns ``prediction`` and, for classes, ``probability_<class>``; ``prediction_<target>`` for numbers.

    Args:
        outputs: Probabilities (N,) or (N, C), or numbers (N, D) in their own units.
        task: binary, multiclass or regression.
        class_names: Names of the classes, in order; None for their numbers.
        target_names: Names of the D targets, in order; None for their numbers.
        carried: Columns to put in front, such as ids.
        rows: The index of the table; if empty, rows are numbered from 0.
    """
    if task == "regression":
        names = target_names or range(outputs.shape[1])
        table = pd.DataFrame(outputs.numpy(), columns=[f"prediction_{name}" for name in names])
    else:
        probabilities = torch.stack([1 - outputs, outputs], dim=1) if task == "binary" else outputs
        classes = class_names or list(map(str, range(probabilities.shape[1])))
        table = pd.DataFrame(probabilities.numpy(), columns=[f"probability_{name}" for name in classes])
        table.insert(0, "prediction", [classes[i] for i in probabilities.argmax(dim=1).tolist()])
    for place, (name, values) in enumerate((carried or {}).items()):
        table.insert(place, name, list(values), allow_duplicates=True)
    if len(rows):
        table.index = pd.Index(rows)
    return table


def check_finite(outputs: Tensor, checkpoint: Path) -> None:
    """Refuse outputs that are NaN or infinite; argmax would turn NaN into the first class.

    Args:
        outputs: The outputs of N rows, (N,) or (N, ...).
        checkpoint: The checkpoint of the network, for the message.

    Raises:
        FailedError: an output is NaN or infinite.
    """
    broken = (~outputs.isfinite().reshape(len(outputs), -1).all(dim=1)).nonzero()
    if len(broken):
        rows = f"{len(broken)} of {len(outputs)} rows, the first of them row {int(broken[0])}"
        raise FailedError(f"{checkpoint} answers NaN or infinity for {rows}")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV. Texts that a spreadsheet would take for formulas get an apostrophe in front."""
    safe = table.rename(columns=_quoted, index=_quoted)
    for place in range(safe.shape[1]):
        column = safe.iloc[:, place]
        if column.dtype == object or isinstance(column.dtype, pd.StringDtype):
            safe.isetitem(place, column.map(_quoted).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    safe.to_csv(path, index_label="row")


def _quoted(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_RUN) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
