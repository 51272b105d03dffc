"""Reduces what each rank of a process group has measured."""

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
#: The fields that are reduced over ranks, each of which measures its share of the batch. Not STREAM: the names of
#: residual sums are not known beforehand.
SHARED = tuple(dict.fromkeys(f for f in _ALL if f.is_share and f.reduction is not Reduction.MAX and f is not STREAM))
#: The fields with a value for each unit.
LARGEST = tuple(dict.fromkeys(field for field in _ALL if field.reduction is Reduction.MAX))
#: Why some parameters differ from rank to rank.
OF_EACH_RANK = "DistributedDataParallel leaves them out, so each rank trains its own"


@final
class Ranks:
    """The ranks that share a batch (DDP), or the weights as well (FSDP2).

    All ranks contribute a matrix of the same shape, a row a field and a column a layer, whichever layers they have
    run, so that no collective call hangs.

    Args:
        group: The process group.
        units: The number of units of each layer.
        device: The device of the weights.
    """

    def __init__(self, group: dist.ProcessGroup, units: Mapping[str, int], device: torch.device) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self._units = units
        # Biases and gains share one column.
        self.columns = {name: column for column, name in enumerate((*units, ""))}
        self._device = device

    def reduce(self, parts: Mapping[Field, Part], fields: Sequence[Field]) -> dict[Field, Part]:
        """Reduce ``fields`` over all ranks; for fields with a value for each unit, use ``largest``."""
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
        """Reduce the values of shards to those of whole layers, each named once.

        Args:
            part: A value for each shard.
            tensors: The shards.
            reduction: NORM or SUM.
        """
        copies = self.copies(tensors)
        own = Part(part.names, self._values(part) / (copies.sqrt() if reduction is Reduction.NORM else copies))
        field = Field(reduction)
        row = self._values(self.reduce({field: own}, (field,))[field])
        names = list(dict.fromkeys(part.names))
        return Part(names, row[self._index(names)])

    def spread(self, part: Part) -> Part:
        """The range of each layer's norm over the ranks, relative to the largest norm; each layer named once."""
        index, values = self._index(part.names), self._values(part)
        row = torch.full((len(self.columns),), -torch.inf, dtype=values.dtype, device=self._device)
        row[index] = 0.0
        row.index_add_(0, index, values.square())
        both = torch.stack([row, -row])
        both[1][row == -torch.inf] = -torch.inf  # a layer that this rank has not measured
        dist.all_reduce(both, dist.ReduceOp.MAX, group=self.group)
        largest, smallest = both[0].sqrt(), (-both[1]).sqrt()
        names = list(dict.fromkeys(part.names))
        chosen = self._index(names)
        return Part(names, ((largest - smallest) / largest.clamp(min=1e-300))[chosen])

    def copies(self, tensors: Sequence[Tensor]) -> Tensor:
        """How many ranks hold each element of a tensor, (n,)."""
        return on_device([self._copies(tensor) for tensor in tensors], self._device, measure.accumulator(self._device))

    def _copies(self, tensor: Any) -> int:
        """All ranks; for a sharded tensor, the number of its replicas."""
        if not hasattr(tensor, "device_mesh"):
            return self.size
        replicas = [axis for axis, placement in enumerate(tensor.placements) if placement.is_replicate()]
        return math.prod(tensor.device_mesh.size(axis) for axis in replicas)

    def largest(self, by_unit: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The largest value of each unit over the ranks, for layers with as many units as their weight has."""
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
    """Copy numbers from the host to the device without synchronizing."""
    tensor = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)
