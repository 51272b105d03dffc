"""Puts together what a deep network's run has of all its layers, block by block."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, final

from unvanish.page import Packed
from unvanish.page.matrix import joined, row_of


@final
class AllLayers:
    """All layers of one run.

    Args:
        blocks: As ``unvanish.gradients.show.all_layers`` writes them, the first steps first.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = [json.loads(block) for block in blocks]

    @property
    def quantities(self) -> list[str]:
        """That there are."""
        return [*dict.fromkeys(name for block in self._blocks for name in block["quantities"])]

    def matrix(self, quantity: str) -> Packed:
        """A quantity by layer and step."""
        return joined([_named(block, quantity) for block in self._blocks if quantity in block["quantities"]])

    def layer(self, name: str) -> dict[str, Packed]:
        """All that there is of a layer, by quantity; nothing, where there is no such layer."""
        found = {}
        for quantity in self.quantities:
            parts = [_named(block, quantity) for block in self._blocks if quantity in block["quantities"]]
            rows = [row_of(part, name) for part in parts if name in part["layers"]]
            if rows:
                found[quantity] = joined(rows)
        return found

    def histogram(self, name: str) -> dict[str, Any] | None:
        """Of a layer the last one: log10 of the edges, and the counts between."""
        there = [block["histograms"][name] for block in self._blocks if name in block["histograms"]]
        if not there:
            return None
        edges = [(there[-1]["first"] + place) * math.log10(2) for place in range(len(there[-1]["counts"]) + 1)]
        buckets = zip(edges, edges[1:], there[-1]["counts"], strict=False)
        return {"step": there[-1]["step"], "buckets": [bucket for bucket in buckets if bucket[2]]}


def _named(block: Mapping[str, Any], quantity: str) -> Packed:
    matrix: Packed = block["quantities"][quantity]
    return {**matrix, "layers": [block["layers"][place] for place in block["quantities"][quantity]["layers"]]}
