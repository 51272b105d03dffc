"""A table of a million rows and 30 columns to tensors, beside pandas and scikit-learn by hand; each in a child process.

Ours says what becomes of each column, and refuses what can be read in two ways; by hand nothing of that is done.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.speed.row import Row, in_turns

ROWS, NUMBERS = 1_000_000, 26
CATEGORIES = {"colour": 3, "size": 4, "place": 6}
TEST, VALIDATION = 0.2, 0.15
#: Bytes of the file's numbers, each as a float64.
WHOLE = 8 * ROWS * (NUMBERS + len(CATEGORIES) + 1)


def write_table(path: Path, rows: int = ROWS) -> None:
    """Numbers of both kinds, categories, and a target of two classes."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {f"number{i}": rng.normal(size=rows).round(4) for i in range(NUMBERS - 2)}
    columns |= {"age": rng.integers(18, 90, rows), "count": rng.integers(0, 1000, rows)}
    for name, count in CATEGORIES.items():
        columns[name] = np.array([f"{name} {letter}" for letter in "abcdefgh"[:count]])[rng.integers(0, count, rows)]
    columns["y"] = np.where(columns["number0"] + rng.normal(size=rows) > 0, "yes", "no")
    pd.DataFrame(columns).to_csv(path, index=False)


def by_us(path: str) -> Callable[[], object]:
    """With our checks; imports are over when this returns."""
    from unvanish.data import Loading, Tabular  # noqa: PLC0415 - of this child alone

    return lambda: Tabular(path=path, target="y", loading=Loading(validation_share=VALIDATION, test_share=TEST)).splits


def by_hand(path: str) -> Callable[[], object]:
    """What scikit-learn's documentation shows: a ColumnTransformer that is fitted to the training rows."""
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

    def work() -> object:
        table = pd.read_csv(path)
        y = table.pop("y")
        numbers = table.select_dtypes("number").columns.tolist()
        texts = [name for name in table if name not in numbers]
        rest, test, y_rest, y_test = train_test_split(table, y, test_size=TEST, stratify=y, random_state=0)
        share = VALIDATION / (1 - TEST)
        train, validation, y_train, y_validation = train_test_split(
            rest, y_rest, test_size=share, stratify=y_rest, random_state=0
        )
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        coder = ColumnTransformer([("numbers", StandardScaler(), numbers), ("texts", one_hot, texts)])
        xs = [coder.fit_transform(train), coder.transform(validation), coder.transform(test)]
        ys = [np.searchsorted(["no", "yes"], part) for part in (y_train, y_validation, y_test)]
        return [torch.from_numpy(array).float() for array in (*xs, *ys)]

    return work


def child(who: str, path: str) -> dict[str, float]:
    """Seconds, and by how many bytes the process has grown at most, over what its imports take."""
    work = {"ours": by_us, "by hand": by_hand}[who](path)
    before = memory("VmRSS")
    start, begun = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - start, time.process_time() - begun
    return {"seconds": seconds, "processor": processor, "grown": memory("VmHWM") - before}


def memory(what: str) -> int:
    """Bytes that this process has now, ``VmRSS``, or has had at most, ``VmHWM``.

    getrusage's own maximum is that of the process that has started this one, too.
    """
    (line,) = [line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if what in line]
    return 1024 * int(line.split()[1])


def rows(root: Path) -> Iterator[Row]:
    """Seconds, and the memory at its most."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "by hand": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_table(path)

        def run(who: str) -> float:
            command = [sys.executable, "-m", "benchmarks.speed.tables", who, str(path)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            found[who].append(json.loads(answer.stdout.splitlines()[-1]))
            return found[who][-1]["seconds"]

        times = in_turns({who: lambda who=who: run(who) for who in found})
    peer = "pandas and scikit-learn"
    work = f"{ROWS:,} rows of {NUMBERS} numbers, {len(CATEGORIES)} categories and a target to tensors"
    yield Row(work, peer, times["ours"], times["by hand"], "s", 1.0)
    processor, grown = (
        {who: tuple(one[what] for one in runs[1:]) for who, runs in found.items()} for what in ("processor", "grown")
    )
    yield Row("the same, processor time", peer, processor["ours"], processor["by hand"], "s", 1.0)
    for who in found:
        shares = tuple(size / WHOLE for size in grown[who])
        unit = "times the file's numbers as float64"
        yield Row(f"memory at its most, {who}", "", shares, (), unit, 2.5 if who == "ours" else 0.0)


if __name__ == "__main__":
    print(json.dumps(child(*sys.argv[1:])))
