"""All layers of a deep network, for TensorBoard's tab Gradients: its own pages would be too long."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, final

from tensorboard.compat.proto.summary_pb2 import Summary

from unvanish.gradients.record import Record
from unvanish.gradients.show.runs import numbers_of
from unvanish.gradients.show.values import tensor_value
from unvanish.page.quantities import LAYERS, TAB

#: Steps that are written at once. Of one tag TensorBoard would keep ten values, so each block has a tag of its own.
BLOCK = 16


@final
class AllLayers:
    """Collects the steps at which layers were measured, and writes them in blocks.

    A block is JSON: ``layers``, their names; ``quantities``, as of ``unvanish.page.packed`` but with places among those
    names for its layers; ``histograms``, the last ones.
    """

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._blocks = 0

    def take(self, record: Record, names: Mapping[str, str]) -> Iterator[Summary.Value]:
        """Take a step in; there is a block to write when there are enough of them.

        Args:
            record: The step.
            names: What the layers are called in charts.
        """
        self._records.append(record)
        if len(self._records) >= BLOCK:
            yield from self.rest(names)

    def rest(self, names: Mapping[str, str]) -> Iterator[Summary.Value]:
        """What was not written yet, as a block; none where there is nothing."""
        if not self._records:
            return
        block = _block(self._records, names)
        yield tensor_value(f"{LAYERS}/{self._blocks:04}", TAB, json.dumps(block, allow_nan=False).encode())
        self._records.clear()
        self._blocks += 1


def _block(records: list[Record], names: Mapping[str, str]) -> dict[str, Any]:
    found = numbers_of(records, names)
    places = {short: place for place, short in enumerate(names.values())}
    quantities = {
        name: {**matrix, "layers": [places[layer] for layer in matrix["layers"]]}
        for name, matrix in found["quantities"].items()
    }
    return {"layers": list(places), "quantities": quantities, "histograms": found["histograms"]}
