"""Learning-rate schedules as one function of the step, so that a run's length may become known late."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from unvanish.bounds import ClosedUnitInterval, NonNegativeInt, check_bounds
from unvanish.names import lookup
from unvanish.training.brief import brief


def _cosine(progress: float) -> float:
    """SGDR without restarts (Loshchilov and Hutter 2017, eq. 5)."""
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(progress: float, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4) -> float:
    """Up by a cosine for the first 30 %, then down to almost nothing (Smith and Topin 2019)."""
    if progress < rise:
        return 1 + (start - 1) * _cosine(progress / rise)
    return end + (1 - end) * _cosine((progress - rise) / (1 - rise))


_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1 - progress,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}


@dataclass(frozen=True, repr=False)
class Schedule:
    """How the learning rate changes, step by step.

    Args:
        name: The shape; one_cycle rises for the first 30 % and then falls.
        warmup_steps: Optimizer steps in which the rate first rises in a straight line, the last of them at the full
            rate; not for one_cycle.
        final: The rate at the end, as a share of the full rate, for linear and cosine.
    """

    name: Literal["constant", "linear", "cosine", "one_cycle"] = "constant"
    warmup_steps: NonNegativeInt = 0
    final: ClosedUnitInterval = 0.0

    __repr__ = brief

    def __post_init__(self) -> None:
        lookup("schedule", self.name, _SHAPES)
        check_bounds(Schedule, vars(self), "schedule.")
        if self.warmup_steps and self.name == "one_cycle":
            raise ValueError("schedule.warmup_steps is not for one_cycle, which has a rise of its own")
        if self.final and self.name not in ("linear", "cosine"):
            raise ValueError(f"schedule.final is for linear and cosine; the schedule is {self.name}")

    @property
    def is_constant(self) -> bool:
        """Whether the rate never changes."""
        return self.name == "constant" and self.warmup_steps == 0

    def factor(self, step: int, total_steps: int) -> float:
        """The learning rate after ``step`` optimizer steps of ``total_steps``, as a share of the full rate."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps))
        return self.final + (1 - self.final) * _SHAPES[self.name](progress)
