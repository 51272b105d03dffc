"""A measurement beside its peer's, taken in turns within one run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Work = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        work: What is done.
        peer: What it is measured beside.
        ours: What ours took in each round; in ``unit``, less is better.
        theirs: What the peer took in the same rounds; empty where there is none, and ``target`` is in ``unit``.
        unit: Of both, such as ``ms a step``.
        target: The ratio ours / theirs to reach, or the number itself where there is no peer; 0 where there is none.
        note: What else was measured: an accuracy, a size, the spread of it.
    """

    work: str
    peer: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    unit: str
    target: float = 0.0
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, round by round, the least first; ours alone where there is no peer."""
        return sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True)) if self.theirs else sorted(self.ours)

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is; None where there is none."""
        return median(self.ratios) <= self.target if self.target else None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        ratios = self.ratios
        beside = f"x{median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}] of {self.peer}, " if self.theirs else ""
        goal = f", target {self.target:g}: {'reached' if self.is_reached else 'not reached'}" if self.target else ""
        note = f"; {self.note}" if self.note else ""
        return f"{self.work}: {beside}{median(self.ours):.4g} {self.unit}{goal}{note}"


def in_turns(works: Mapping[str, Work], rounds: int = 5, warm: int = 1) -> dict[str, tuple[float, ...]]:
    """What each work took, round by round; they take turns, so that a noisy neighbour disturbs all of them alike.

    Args:
        works: A name and a function that returns what it took.
        rounds: How many are kept.
        warm: How many before them are not.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for index in range(warm + rounds):
        for name, work in works.items():
            seconds = work()
            if index >= warm:
                found[name].append(seconds)
    return {name: tuple(times) for name, times in found.items()}
