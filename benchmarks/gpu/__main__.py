"""The page "On a GPU": what this package does there, computed by one command in under eight minutes.

``python -m benchmarks.gpu --root DATA`` writes benchmarks/GPU.md; with some sections' names it only prints them.
"""

import sys
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu import cost, equal, recipes, train, waits
from benchmarks.gpu.page import Settings, run
from unvanish.names import lookup

SECTIONS = {
    "equal": equal.SECTION,
    "waits": waits.SECTION,
    "cost": cost.SECTION,
    "recipes": recipes.SECTION,
    "train": train.SECTION,
}
PAGE = Path(__file__).parents[1] / "GPU.md"


def main(words: Sequence[str] | None = None) -> int:
    """Run the sections; 1 where a check does not hold, 2 where there is no GPU or a name is wrong."""
    parser = ArgumentParser("python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all, if none is named")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="has MNIST and tinyshakespeare.txt; %(default)s"
    )
    parser.add_argument("--out", type=Path, help="the page; benchmarks/GPU.md where all sections run on a GPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the command")
    parser.add_argument("--quick", action="store_true", help="few steps, enough to see that it works")
    given = parser.parse_args(words)
    try:
        sections = [lookup("section", name, SECTIONS) for name in given.sections] or list(SECTIONS.values())
    except ValueError as error:
        parser.error(str(error))
    if given.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.gpu: there is no CUDA device; --device cpu --quick tries the command", file=sys.stderr)
        return 2
    is_whole = given.device == "cuda" and not given.quick and not given.sections
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated")
    with tempfile.TemporaryDirectory() as runs:
        settings = Settings(torch.device(given.device), given.quick, given.root.resolve(), Path(runs))
        return run(sections, settings, given.out or (PAGE if is_whole else None))


if __name__ == "__main__":
    raise SystemExit(main())
