"""Which rows train, validate and test."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


def split(groups: Integers, names: Sequence[str], shares: Sequence[float], seed: int) -> list[Integers]:
    """Split off shares of the rows, stratified by group: at least one row of each group unless the share is 0.

    Args:
        groups: (N,) the group of each row, an index into ``names``.
        names: What a refusal calls each group.
        shares: The share of the rows in each part to cut off.
        seed: Fixes which rows go where.

    Returns:
        The rows that are left, in random order, then the rows of each part, in their own order.

    Raises:
        ValueError: A group has too few rows to appear in every part.
    """
    rng = np.random.default_rng(seed)
    # Rounded along the running total, so that the parts keep their share of the whole.
    ends = np.cumsum(np.bincount(groups, minlength=len(names)))
    sizes = [np.maximum(share > 0, np.diff(np.rint(share * ends).astype(int), prepend=0)) for share in shares]
    pieces = []
    for group, name in enumerate(names):
        rows = rng.permutation(np.flatnonzero(groups == group))
        cuts = np.cumsum([size[group] for size in sizes])
        if cuts[-1] >= len(rows):
            wanted = 1 + np.count_nonzero(shares)
            raise ValueError(f"{name}: {len(rows)} rows are too few for {wanted} splits with a row in each")
        pieces.append(np.split(rows, cuts))
    *parts, rest = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return [rng.permutation(rest), *map(np.sort, parts)]
