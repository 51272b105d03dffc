"""What a quantity is: fields that stay on the device, how they are reduced, and its value on the host."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Reduction(Enum):
    """How the values of one layer are reduced over calls, micro-batches, weights, shards and ranks."""

    NORM = "the root of the sum of squares"
    SUM = "the sum"
    MAX = "unit by unit the largest"


class Scale(Enum):
    """The factor of a gradient scaler that a value contains and that is divided out."""

    NONE = "nothing"
    LOSS = "the loss's factor, always present in the backward pass"
    SHARE = "the loss's factor times the number of ranks, for a rank's share of the batch"
    GRADIENT = "the loss's factor, until the scaler has unscaled the gradients"


@dataclass(frozen=True, eq=False)
class Field:
    """A value for each layer, kept on the device until the flush.

    Args:
        reduction: How several values of a layer become one.
        scale: The factor of a gradient scaler that it contains.
        is_share: Whether each rank measures it on its own share of the batch.
        finish: For a MAX field, which has a value for each unit: reduces each layer's units to one value.
    """

    reduction: Reduction = Reduction.SUM
    scale: Scale = Scale.NONE
    is_share: bool = False
    finish: Callable[[Sequence[Tensor]], Tensor | list[float]] | None = None


class Part(NamedTuple):
    """Values of layers.

    Args:
        names: The layer of each value. Values of a layer that occurs more than once are reduced later.
        values: The values, (n,): on the device, or floats if that is the CPU.
    """

    names: list[str]
    values: Tensor | list[float]

    def divided(self, scale: Tensor | float) -> "Part":
        """Divide the values by a factor."""
        if isinstance(self.values, Tensor):
            return Part(self.names, self.values / scale)
        return Part(self.names, (torch.tensor(self.values, dtype=torch.float64) / scale).tolist())

    def read(self, brought: Iterator[float]) -> list[float]:
        """The values on the host; those of a device are taken from ``brought``."""
        return [*islice(brought, self.values.numel())] if isinstance(self.values, Tensor) else self.values


class Output(NamedTuple):
    """A call of a layer in the forward pass; it counts once its delta was seen.

    Args:
        module: The layer.
        kind: The kind of its activation, such as relu.
        activation: The activation's value.
    """

    module: nn.Module
    kind: str
    activation: Tensor


class Delta(NamedTuple):
    """dL/dz, the gradient of a layer's output, in the backward pass."""

    gradient: Tensor


class Stream(NamedTuple):
    """The gradient of a sum in which a residual branch joins the trunk."""

    gradient: Tensor


class Whole(NamedTuple):
    """Reduces over whole tensors, of which this rank may hold only a shard or a copy.

    Args:
        norms: (layers' names, tensors) -> their norms.
        sums: (layers' names, a scalar for each tensor, tensors) -> the sums of the scalars.
        spread: (layers' names, tensors) -> by how much the norms of copies differ; None if there are no copies.
    """

    norms: Callable[[list[str], Sequence[Tensor]], Part]
    sums: Callable[[list[str], Sequence[Tensor | float], Sequence[Tensor]], Part]
    spread: Callable[[list[str], Sequence[Tensor]], Part | None]


class Initial(NamedTuple):
    """The weights before the first step.

    Args:
        names: Their layers.
        weights: The weights; of sharded ones this rank's shards.
    """

    names: list[str]
    weights: Sequence[Tensor]


class Weights(NamedTuple):
    """The weights of an optimizer before its step.

    Args:
        names: Their layers; empty for biases and gains, which count only in totals.
        weights: The parameters.
        gradients: dL/dW, before clipping.
        whole: Reduces over shards and copies.
    """

    names: list[str]
    weights: Sequence[Tensor]
    gradients: Sequence[Tensor]
    whole: Whole


class Successive(NamedTuple):
    """The gradients of a step, and those of the step before with their norms; arguments as in ``Weights``."""

    names: list[str]
    previous: Sequence[Tensor]
    norms: Part
    gradients: Sequence[Tensor]
    whole: Whole


class Clipped(NamedTuple):
    """The gradients after clipping; arguments as in ``Weights``."""

    names: list[str]
    gradients: Sequence[Tensor]
    whole: Whole


class Update(NamedTuple):
    """The result of an optimizer's step; other arguments as in ``Weights``.

    Args:
        moved: W' - W; of sharded weights this rank's shards.
        gradients: dL/dW after the step, None where it is gone; likewise.
        optimizer: The optimizer, if known.
    """

    names: list[str]
    weights: Sequence[Tensor]
    moved: Sequence[Tensor]
    gradients: Sequence[Tensor | None]
    optimizer: Optimizer | None
    whole: Whole


Moment = Output | Delta | Stream | Initial | Weights | Successive | Clipped | Update
Numbers = Mapping[Field, float]
Columns = Mapping[Field, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Quantity:
    """A measure of each layer.

    Args:
        name: Its name in records and reports, and the first part of its TensorBoard tags.
        title: The title of its charts.
        unit: The unit of its values; empty for a ratio.
        moment: When it is read, a type of ``Moment``; None if its fields are read by other quantities.
        read: Reads its fields at that moment: scalars of one call, or a ``Part`` for weights; empty if there are none.
        value: Computes its value on the host from a layer's fields; None if it is undefined.
        fields: The fields that ``value`` needs. A layer without one of them has no value.
        every_step: Whether it is read at every step, not only at full steps.
        charted: Whether TensorBoard gets a curve for each layer.
        form: The format in which tables print it.
    """

    name: str
    title: str
    unit: str
    fields: tuple[Field, ...]
    value: Callable[[Numbers], float | None]
    moment: type[Moment] | None = None
    read: Callable[[Any], Mapping[Field, Any]] | None = None
    every_step: bool = False
    charted: bool = True
    form: str = ".1e"


class Batch(NamedTuple):
    """The samples of a step.

    Args:
        size: The number in a micro-batch on one rank; None if unknown.
        ranks: How many ranks share the batch.
    """

    size: int | None
    ranks: int


@dataclass(frozen=True, eq=False)
class Total:
    """A measure of a step as a whole.

    Args:
        name: Its key in ``Record.totals``.
        value: Computes its value on the host from all fields by layer; None if it is undefined.
    """

    name: str
    value: Callable[[Columns, Batch], float | None]


def total_norm(name: str, field: Field) -> Total:
    """The norm over all parameters, including biases and gains."""
    return Total(name, lambda columns, _: math.hypot(*columns[field].values()) if field in columns else None)
