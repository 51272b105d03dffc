"""Reads some 2,000 defective files and writes benchmarks/TABLES.md: ``python -m benchmarks.tables [--files N]``."""

import argparse
import logging
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables.defects import (
    COMMON,
    OF_SERIES,
    OF_TABLES,
    Defective,
    Generator,
    Rows,
    clean_series,
    clean_table,
    written,
)
from unvanish.data import InMemoryData, Series, Tabular

OUTCOMES = ("refused", "said", "right", "silent", "traceback", "hang")
SECONDS = 20  # until a file counts as a hang
KINDS: dict[str, tuple[Callable[[Generator], Rows], Callable[[Path], InMemoryData], dict]] = {
    "table": (clean_table, lambda path: Tabular(path=str(path), target="y"), COMMON | OF_TABLES),
    "series": (clean_series, lambda path: Series(path=str(path), targets=["price"]), COMMON | OF_SERIES),
}


class _Lines(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += record.getMessage().splitlines()


def outcome(kind: str, name: str, seed: int, folder: Path) -> tuple[str, str]:
    """What becomes of one defective file, and the words that were said of it."""
    make, load, defects = KINDS[kind]
    clean = make(np.random.default_rng(seed))
    (folder / "clean").mkdir(exist_ok=True)
    path, defective_path = folder / "clean" / "rows.csv", folder / "rows.csv"
    path.write_text(written(clean))
    defective: Defective = defects[name]([list(row) for row in clean], np.random.default_rng(seed + 1))
    defective_path.write_bytes(defective.content)
    expected, usual = _read(load, path)
    assert isinstance(expected, list), usual
    try:
        found, said = _read(load, defective_path)
    except TimeoutError:
        return "hang", ""
    except Exception:
        return "traceback", traceback.format_exc()
    if not isinstance(found, list):
        return ("traceback" if "\n" in found else "refused"), found
    if len(found) == len(expected) and all(map(torch.equal, found, expected)):
        return "right", ""
    # A line of the table of columns that tells nothing but its numbers is no word.
    new = [line for line in said if line not in usual and not line.endswith(" scaled")]
    words = [line for line in new if any(word in line for word in defective.words)]
    return ("said", words[0]) if words and not defective.plain else ("silent", "\n".join(new))


def _read(load: Callable[[Path], InMemoryData], path: Path) -> tuple[list[torch.Tensor] | str, list[str]]:
    """The tensors of a file, or the words that refuse it, and what the log says, without the path."""
    handler, logger = _Lines(), logging.getLogger("unvanish")
    logger.addHandler(handler)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        data = load(path)
        return [tensor for split in data.splits[:4] for tensor in split], [
            x.replace(str(path), "") for x in handler.lines
        ]
    except (ValueError, FileNotFoundError) as error:
        return str(error), []
    finally:
        signal.alarm(0)
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _too_long(*_: object) -> None:
    raise TimeoutError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=16, help="of each defect")
    parser.add_argument("--show", action="store_true", help="what was said of each first file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "TABLES.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, total = [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        for kind, (_, _, defects) in KINDS.items():
            for name in defects:
                found = [outcome(kind, name, seed, Path(folder)) for seed in range(options.files)]
                counts = Counter(result for result, _ in found)
                total += counts
                rows.append(f"| {kind} | {name} | " + " | ".join(str(counts[x] or "") for x in OUTCOMES) + " |")
                shown = [pair for pair in found if pair[0] in ("silent", "traceback", "hang")] or found[: options.show]
                for result, words in shown[:1]:
                    print(f"{kind}, {name}: {result}: {words.replace(folder, '')}", flush=True)
    head = f"| file | defect | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}"
    last = "| all | | " + " | ".join(str(total[x]) for x in OUTCOMES) + " |"
    written = f"Written by `make tables` on {date.today()}."
    options.out.write_text(f"{WORDS}\n{head}\n" + "\n".join([*rows, last, "", written]) + "\n")
    print(dict(total))
    return int(any(total[x] for x in ("silent", "traceback", "hang")))


WORDS = """# Defective tables

`make tables` writes clean tables and series, spoils each in one way, and reads it with `Tabular` or `Series`, as `fit`
does, without any option. *Refused*: in one line. *Said*: read, with the column or the row in the log. *Right*: the
tensors are those of the clean file, bit for bit. *Silent*: other tensors, and not a word. All is drawn at random.
"""

if __name__ == "__main__":
    sys.exit(main())
