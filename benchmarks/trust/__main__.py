"""Kills runs, damages checkpoints, counts what is lost: ``python -m benchmarks.trust`` writes benchmarks/TRUST.md.

It forks, so it needs Linux or macOS.
"""

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from signal import Signals

import matplotlib.pyplot  # noqa: F401 - what a run needs is imported once, before it is forked
import sklearn.datasets  # noqa: F401
import torch

import unvanish.command.fit  # noqa: F401
from benchmarks.trust.cost import SIZES, seconds_to_write
from benchmarks.trust.damage import OTHER, damage
from benchmarks.trust.families import FAMILIES
from benchmarks.trust.kills import MOMENTS, SIGNALS, kill, left_alone
from benchmarks.trust.page import FUZZ, LONG, PAGE, others, page


def main(words: Sequence[str] | None = None) -> int:
    """Run, count, print; write the page where all was run. 1 where anything was lost."""
    parser = ArgumentParser("python -m benchmarks.trust", description=__doc__, allow_abbrev=False)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES], help="of networks; all")
    names = [signum.name for signum in SIGNALS]
    parser.add_argument("--signals", nargs="+", choices=names, default=names, help="that kill; all")
    parser.add_argument("--rounds", type=int, default=5, help="kills of each family by each signal; %(default)s")
    parser.add_argument("--files", type=int, default=300, help="damaged checkpoints; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; %(default)s")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    kills = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for family in given.families:
            whole, batches = left_alone(family, place / family)
            for number in range(given.rounds):
                for index, signum in enumerate(SIGNALS):
                    if signum.name not in given.signals:
                        continue
                    moment = MOMENTS[(number + index) % len(MOMENTS)]
                    seed = hash((given.seed, number, index))
                    kills.append(kill(family, signum, moment, whole, batches, place / "killed", seed))
                    what = "; ".join(kills[-1].differs) or "equal"
                    print(f"{family}, {Signals(signum).name} in {kills[-1].moment}: {what}", flush=True)
        damaged = damage(whole / "checkpoints/last.ckpt", place / "damaged", given.files)
        is_all = (given.families, given.signals) == ([*FAMILIES], names) and given.rounds >= 5 and given.files >= 300
        costs = {size: seconds_to_write(size, place / "timed") for size in (SIZES if is_all else SIZES[:1])}
    text = page(kills, damaged, costs)
    print(text)
    if is_all:
        PAGE.write_text(text + others((LONG, FUZZ)), encoding="utf-8")
    return int(any(kill.differs for kill in kills) or damaged[OTHER] > 0)


if __name__ == "__main__":
    sys.exit(main())
