"""Statistics of data by column, computed on the device and read on the host."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.gradients import measure

#: Data with more columns is treated as a single one.
COLUMNS = 1024


@dataclass(frozen=True)
class Sample:
    """Statistics of data by column.

    Args:
        count: Number of rows.
        smallest: Smallest value.
        largest: Largest value.
        binary: How many values are 0 or 1.
        sums: Sum of each column, which is a feature or a channel; a single sum if there are too many columns.
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
        """Means by column."""
        return [total / self.count for total in self.sums]

    @property
    def variances(self) -> list[float]:
        """Variances by column."""
        return [max(s / self.count - m**2, 0.0) for s, m in zip(self.squares, self.means, strict=True)]

    @property
    def rms(self) -> float:
        """Root mean square of all values."""
        return math.sqrt(sum(self.squares) / (self.count * len(self.squares)))

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return sum(self.sums) / (self.count * len(self.sums))

    @property
    def std(self) -> float:
        """Standard deviation within columns."""
        return math.sqrt(sum(self.variances) / len(self.sums))

    @property
    def is_labels(self) -> bool:
        """Whether all values are 0 or 1."""
        return self.binary == self.count * len(self.sums)

    @property
    def is_one_hot(self) -> bool:
        """Whether each row has a single 1."""
        return self.is_labels and len(self.sums) > 1 and sum(self.sums) == self.count

    @property
    def frequencies(self) -> list[float]:
        """Share of each class, for labels."""
        return self.means if len(self.sums) > 1 else [1 - self.mean, self.mean]


def pooled(samples: Iterable[Sample | None]) -> Sample | None:
    """Pool samples into one; None if there is none or their numbers of columns differ."""
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
    """The values of a ``Sample``, (4 + 2 columns,), and the number of columns."""
    values = values.detach()
    values = values.to(measure.accumulator(values.device))
    many = values.dim() > 1 and values.shape[axis] <= COLUMNS
    table = values.movedim(axis, -1).reshape(-1, values.shape[axis]) if many else values.reshape(-1, 1)
    binary = ((table == 0) | (table == 1)).sum()
    head = torch.stack([table.new_tensor(len(table)), table.min(), table.max(), binary.to(table.dtype)])
    return torch.cat([head, table.sum(0), table.square().sum(0)]), table.shape[1]
