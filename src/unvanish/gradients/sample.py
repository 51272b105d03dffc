"""What some numbers are like, by column: read on the device, told on the host."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.gradients import measure

#: Of data with more columns only what they have in common is kept.
COLUMNS = 1024


@dataclass(frozen=True)
class Sample:
    """What some numbers were like, by column.

    Args:
        count: Rows.
        smallest: Of all.
        largest: Of all.
        binary: How many numbers are 0 or 1.
        sums: Of each column, the last axis of two or the channels of images; one for all where there are too many.
        squares: Sums of squares.
    """

    count: float
    smallest: float
    largest: float
    binary: float
    sums: tuple[float, ...]
    squares: tuple[float, ...]

    @property
    def means(self) -> list[float]:
        """By column."""
        return [total / self.count for total in self.sums]

    @property
    def variances(self) -> list[float]:
        """By column."""
        return [max(s / self.count - m**2, 0.0) for s, m in zip(self.squares, self.means, strict=True)]

    @property
    def rms(self) -> float:
        """The root of the mean square of all."""
        return math.sqrt(sum(self.squares) / (self.count * len(self.squares)))

    @property
    def mean(self) -> float:
        """Of all."""
        return sum(self.sums) / (self.count * len(self.sums))

    @property
    def std(self) -> float:
        """Within columns."""
        return math.sqrt(sum(self.variances) / len(self.sums))

    @property
    def is_labels(self) -> bool:
        """Whether all are 0 or 1."""
        return self.binary == self.count * len(self.sums)

    @property
    def is_one_hot(self) -> bool:
        """Whether there is one 1 for each row."""
        return self.is_labels and len(self.sums) > 1 and sum(self.sums) == self.count

    @property
    def frequencies(self) -> list[float]:
        """Of labels the share of each class."""
        return self.means if len(self.sums) > 1 else [1 - self.mean, self.mean]


def pooled(samples: Iterable[Sample | None]) -> Sample | None:
    """Several as one; None where there is none, or they differ in their columns."""
    known = [sample for sample in samples if sample is not None and sample.count]
    if not known or len({len(sample.sums) for sample in known}) > 1:
        return None
    return Sample(
        sum(sample.count for sample in known),
        min(sample.smallest for sample in known),
        max(sample.largest for sample in known),
        sum(sample.binary for sample in known),
        tuple(map(sum, zip(*(sample.sums for sample in known), strict=True))),
        tuple(map(sum, zip(*(sample.squares for sample in known), strict=True))),
    )


def columns_of(values: Tensor, axis: int = -1) -> tuple[Tensor, int]:
    """The numbers of a ``Sample``, (4 + 2 columns,), and how many columns there are."""
    values = values.detach()
    values = values.to(measure.accumulator(values.device))
    many = values.dim() > 1 and values.shape[axis] <= COLUMNS
    table = values.movedim(axis, -1).reshape(-1, values.shape[axis]) if many else values.reshape(-1, 1)
    binary = ((table == 0) | (table == 1)).sum()
    head = torch.stack([table.new_tensor(len(table)), table.min(), table.max(), binary.to(table.dtype)])
    return torch.cat([head, table.sum(0), table.square().sum(0)]), table.shape[1]
