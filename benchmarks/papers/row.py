"""What a row of the table "paper | ours" is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Settings(NamedTuple):
    """What a row may use.

    Args:
        root: Folder of torchvision's data sets and of tinyshakespeare.txt.
        seeds: How often a row is computed, each time with new weights, and new data where they are random.
        jobs: Training runs side by side.
        out: Folder that keeps training runs.
    """

    root: Path
    seeds: int = 3
    jobs: int = 1
    out: Path = Path("runs/papers")


class Figure(NamedTuple):
    """One number of a row.

    Args:
        what: What it is of: "He", "batch of 64", "plain-56".
        expected: What is printed or exact, with its tolerance: "0.7071 +- 0.01", "> 0.90".
        ours: What was measured, a value a seed.
        passed: Whether ours is as expected.
    """

    what: str
    expected: str
    ours: Sequence[float]
    passed: bool


class Row(NamedTuple):
    """A claim of a paper, and what measures it.

    Args:
        key: Its name on the command line.
        claim: What the paper says.
        source: Where it says so.
        standing: "read" in the paper ("code read", "read in part"), "second hand" in a quotation, or "derived".
        compute: Measures it.
        limit: What it does not show, or why a figure does not come out.
        is_quick: With one seed it takes less than 20 seconds; then it is also a test.
    """

    key: str
    claim: str
    source: str
    standing: str
    compute: Callable[[Settings], list[Figure]]
    limit: str = ""
    is_quick: bool = False
