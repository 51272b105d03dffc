"""Measure the parts that are named, or all of them, and write benchmarks/RESULTS.md."""

import argparse
import importlib
import logging
import sys
import warnings
from pathlib import Path

from benchmarks.speed.page import keep

#: Each is a module here with ``rows(root)``, which takes the folder of the data sets and yields its rows.
PARTS = (
    *("monitor", "step", "digits", "start", "tab", "mnist", "shakespeare", "cifar"),
    *("loading", "tables", "generation", "inference", "scaling"),
)


def main() -> int:
    """Measure part after part; each is kept when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where MNIST and tinyshakespeare.txt are")
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}; there are {', '.join(PARTS)}")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    for name in options.parts or PARTS:
        rows = []
        for row in importlib.import_module(f"benchmarks.speed.{name}").rows(options.root):
            print(row, flush=True)
            rows.append(row)
        keep(name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
