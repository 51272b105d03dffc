"""Adds up over the ranks of a process group what each of them has measured of its share."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unvanish.gradients import measure
from unvanish.gradients.layers import units_of


class Part(NamedTuple):
    """Numbers on the device.

    Args:
        names: The layer of each number; a layer may occur more than once, and then its numbers belong together.
        values: The numbers, (n,).
    """

    names: list[str]
    values: Tensor


@final
class Ranks:
    """The ranks that share a batch (DDP), or the weights as well (FSDP2).

    Every rank brings numbers of the same layout, a row a quantity and a column a layer, whichever layers its own passes
    have run, so that no rank waits for another in vain.

    Args:
        group: The process group.
        modules: The layers by name.
        weights: Their weights, with the layers' names.
    """

    def __init__(
        self, group: dist.ProcessGroup, modules: dict[str, nn.Module], weights: list[tuple[str, nn.Parameter]]
    ) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self.layers = list(modules)
        self._columns = {name: column for column, name in enumerate(modules)}
        self._units = {name: units_of(weight, modules[name]) for name, weight in weights}
        self._device = weights[0][1].device

    def add_up(self, parts: dict[str, Part], quantities: tuple[str, ...], norms: tuple[str, ...]) -> dict[str, Part]:
        """The sums over the ranks of ``quantities``, the root of the squares' sum for those that are ``norms``."""
        matrix = torch.zeros(
            len(quantities), len(self.layers), dtype=measure.accumulator(self._device), device=self._device
        )
        for row, quantity in zip(matrix, quantities, strict=True):
            if quantity in parts:
                names, values = parts[quantity]
                values = values.square() if quantity in norms else values
                row.index_add_(0, on_device([self._columns[name] for name in names], row.device, torch.int64), values)
        dist.all_reduce(matrix, group=self.group)
        return {
            quantity: Part(self.layers, row.sqrt() if quantity in norms else row)
            for row, quantity in zip(matrix, quantities, strict=True)
        }

    def add_shards(self, part: Part, tensors: Sequence[Tensor], *, are_norms: bool) -> Part:
        """What the shards of weights, one a number of ``part``, come to for whole layers, each named once."""
        copies = self.copies(tensors)
        own = Part(part.names, part.values / (copies.sqrt() if are_norms else copies))
        row = self.add_up({"": own}, ("",), ("",) if are_norms else ())[""].values
        names = list(dict.fromkeys(part.names))
        return Part(names, row[on_device([self._columns[name] for name in names], row.device, torch.int64)])

    def copies(self, tensors: Sequence[Tensor]) -> Tensor:
        """How many ranks hold each number of a tensor, (n,)."""
        return on_device([self._copies(tensor) for tensor in tensors], self._device, measure.accumulator(self._device))

    def _copies(self, tensor: Any) -> int:
        """All ranks, or of a sharded tensor those of its replicas."""
        if not hasattr(tensor, "device_mesh"):
            return self.size
        replicas = [axis for axis, placement in enumerate(tensor.placements) if placement.is_replicate()]
        return math.prod(tensor.device_mesh.size(axis) for axis in replicas)

    def largest(self, largest: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each unit's largest activation over the ranks; of layers with as many units as their weight says."""
        own = [
            largest[name].float()
            if name in largest and len(largest[name]) == units
            else torch.full((units,), -torch.inf, device=self._device)
            for name, units in self._units.items()
        ]
        whole = torch.cat(own)
        dist.all_reduce(whole, dist.ReduceOp.MAX, group=self.group)
        return dict(zip(self._units, torch.split(whole, [len(part) for part in own]), strict=True))


def on_device(numbers: list[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers of the host as a tensor on the device, without waiting for it."""
    tensor = torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)
