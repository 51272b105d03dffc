"""Brings together over the ranks of a process group what each of them has measured of its share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.quantities import QUANTITIES, Field, Part, Reduction
from unvanish.gradients.quantities.noise import SMALL_BATCH, SMALL_BATCHES
from unvanish.gradients.quantities.stream import STREAM
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES

_ALL = (
    *(field for quantity in QUANTITIES for field in quantity.fields),
    *(SMALL_BATCH, SMALL_BATCHES, *STATES, PASSES, LENGTH, LENGTH_SQUARE),
)
#: What the ranks bring together, each of its own share of the batch; the names of sums are known to no rank before.
SHARED = tuple(dict.fromkeys(f for f in _ALL if f.is_share and f.reduction is not Reduction.MAX and f is not STREAM))
#: The fields that hold a number a unit.
LARGEST = tuple(dict.fromkeys(field for field in _ALL if field.reduction is Reduction.MAX))


@final
class Ranks:
    """The ranks that share a batch (DDP), or the weights as well (FSDP2).

    Every rank brings numbers of the same layout, a row a field and a column a layer, whichever layers its own passes
    have run, so that no rank waits for another in vain.

    Args:
        group: The process group.
        units: The layers, and how many units each of them has.
        device: Of the weights.
    """

    def __init__(self, group: dist.ProcessGroup, units: Mapping[str, int], device: torch.device) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self._units = units
        # Biases and gains have no layer of their own, and one column.
        self.columns = {name: column for column, name in enumerate((*units, ""))}
        self._device = device

    def reduce(self, parts: Mapping[Field, Part], fields: Sequence[Field]) -> dict[Field, Part]:
        """Each of ``fields`` over all ranks, by its reduction; those that hold a number a unit see ``largest``."""
        wide = measure.accumulator(self._device)
        matrix = torch.zeros(len(fields), len(self.columns), dtype=wide, device=self._device)
        for row, field in zip(matrix, fields, strict=True):
            if field in parts:
                values = self._values(parts[field])
                values = values.square() if field.reduction is Reduction.NORM else values
                row.index_add_(0, self._index(parts[field].names), values)
        dist.all_reduce(matrix, group=self.group)
        return {
            field: Part([*self.columns], row.sqrt() if field.reduction is Reduction.NORM else row)
            for row, field in zip(matrix, fields, strict=True)
        }

    def _values(self, part: Part) -> Tensor:
        wide = measure.accumulator(self._device)
        return part.values.to(wide) if isinstance(part.values, Tensor) else on_device(part.values, self._device, wide)

    def _index(self, names: Sequence[str]) -> Tensor:
        return on_device([self.columns[name] for name in names], self._device, torch.int64)

    def add_shards(self, part: Part, tensors: Sequence[Tensor], reduction: Reduction) -> Part:
        """What the shards of ``tensors``, one a number of ``part``, come to for whole layers, each named once."""
        copies = self.copies(tensors)
        own = Part(part.names, self._values(part) / (copies.sqrt() if reduction is Reduction.NORM else copies))
        field = Field(reduction)
        row = self._values(self.reduce({field: own}, (field,))[field])
        names = list(dict.fromkeys(part.names))
        return Part(names, row[self._index(names)])

    def spread(self, part: Part) -> Part:
        """By how much each layer's norm differs from rank to rank, as a share of the largest; each named once."""
        index, values = self._index(part.names), self._values(part)
        row = torch.full((len(self.columns),), -torch.inf, dtype=values.dtype, device=self._device)
        row[index] = 0.0
        row.index_add_(0, index, values.square())
        both = torch.stack([row, -row])
        both[1][row == -torch.inf] = -torch.inf  # a layer that a rank knows nothing of
        dist.all_reduce(both, dist.ReduceOp.MAX, group=self.group)
        largest, smallest = both[0].sqrt(), (-both[1]).sqrt()
        names = list(dict.fromkeys(part.names))
        chosen = self._index(names)
        return Part(names, ((largest - smallest) / largest.clamp(min=1e-300))[chosen])

    def copies(self, tensors: Sequence[Tensor]) -> Tensor:
        """How many ranks hold each number of a tensor, (n,)."""
        return on_device([self._copies(tensor) for tensor in tensors], self._device, measure.accumulator(self._device))

    def _copies(self, tensor: Any) -> int:
        """All ranks, or of a sharded tensor those of its replicas."""
        if not hasattr(tensor, "device_mesh"):
            return self.size
        replicas = [axis for axis, placement in enumerate(tensor.placements) if placement.is_replicate()]
        return math.prod(tensor.device_mesh.size(axis) for axis in replicas)

    def largest(self, by_unit: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each unit's largest number over the ranks; of layers with as many units as their weight says."""
        own = [
            by_unit[name].float()
            if name in by_unit and len(by_unit[name]) == units
            else torch.full((units,), -torch.inf, device=self._device)
            for name, units in self._units.items()
        ]
        whole = torch.cat(own)
        dist.all_reduce(whole, dist.ReduceOp.MAX, group=self.group)
        return dict(zip(self._units, torch.split(whole, [len(part) for part in own]), strict=True))


def on_device(numbers: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers of the host as a tensor on the device, without waiting for it."""
    tensor = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)
