"""What a measure is: numbers that stay on the device, how they come together, and what they are on the host."""

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
    """How the numbers of one layer come together: those of its calls, micro-batches, weights, shards and ranks."""

    NORM = "the root of the sum of squares"
    SUM = "the sum"
    MAX = "unit by unit the largest"


class Scale(Enum):
    """What a gradient scaler has multiplied a number by, which is taken out again."""

    NONE = "nothing"
    LOSS = "the loss's factor: the backward pass shows it always"
    SHARE = "the same, of a rank's share of the batch, whose loss is averaged with the others'"
    GRADIENT = "the same, until the scaler has taken it out of the gradients"


@dataclass(frozen=True, eq=False)
class Field:
    """A number a layer that is kept on the device until the flush.

    Args:
        reduction: How several of them become one.
        scale: What a gradient scaler has done to it.
        is_share: Whether each rank measures it of its own share of the batch.
        finish: Of a MAX field, which holds a number a unit: what becomes of them in the end, a number a layer.
    """

    reduction: Reduction = Reduction.SUM
    scale: Scale = Scale.NONE
    is_share: bool = False
    finish: Callable[[Sequence[Tensor]], Tensor | list[float]] | None = None


class Part(NamedTuple):
    """Numbers of layers.

    Args:
        names: The layer of each number; a layer may occur more than once, and then its numbers belong together.
        values: The numbers, (n,): on the device, or what has come from a CPU on the host.
    """

    names: list[str]
    values: Tensor | list[float]

    def divided(self, scale: Tensor | float) -> "Part":
        """The same without a factor."""
        if isinstance(self.values, Tensor):
            return Part(self.names, self.values / scale)
        return Part(self.names, (torch.tensor(self.values, dtype=torch.float64) / scale).tolist())

    def read(self, brought: Iterator[float]) -> list[float]:
        """The numbers on the host, those of a device from what was brought from there."""
        return [*islice(brought, self.values.numel())] if isinstance(self.values, Tensor) else self.values


class Output(NamedTuple):
    """A layer's call, seen in the forward pass; it counts once its delta has come.

    Args:
        module: The layer.
        kind: What its activation is, such as relu.
        activation: The activation's value.
    """

    module: nn.Module
    kind: str
    activation: Tensor


class Delta(NamedTuple):
    """dL/dz, the gradient of what a layer has returned, as the backward pass brings it."""

    gradient: Tensor


class Stream(NamedTuple):
    """The gradient of a sum in which a residual branch joins the trunk."""

    gradient: Tensor


class Whole(NamedTuple):
    """Reads whole tensors, of which this rank may hold no more than a shard, or a copy beside other ranks'."""

    norms: Callable[[list[str], Sequence[Tensor]], Part]
    sums: Callable[[list[str], Sequence[Tensor | float], Sequence[Tensor]], Part]
    spread: Callable[[list[str], Sequence[Tensor]], Part | None]


class Initial(NamedTuple):
    """The weights before the first step.

    Args:
        names: Their layers.
        weights: What this rank holds of them.
    """

    names: list[str]
    weights: Sequence[Tensor]


class Weights(NamedTuple):
    """The weights of an optimizer before its step.

    Args:
        names: Their layers; empty for biases and gains, which count in totals alone.
        weights: The parameters.
        gradients: dL/dW, before they are clipped.
        whole: ``norms(names, tensors)``, ``sums(names, scalars, tensors that they are of)``, and by how much the norms
            of copies differ from rank to rank, ``spread(names, tensors)``; None where there are no copies.
    """

    names: list[str]
    weights: Sequence[Tensor]
    gradients: Sequence[Tensor]
    whole: Whole


class Successive(NamedTuple):
    """The gradients of a step and copies of those of the step before, with their norms; arguments as of ``Weights``."""

    names: list[str]
    previous: Sequence[Tensor]
    norms: Part
    gradients: Sequence[Tensor]
    whole: Whole


class Clipped(NamedTuple):
    """The gradients as the optimizer will see them; arguments as of ``Weights``."""

    names: list[str]
    gradients: Sequence[Tensor]
    whole: Whole


class Update(NamedTuple):
    """What an optimizer's step has done; arguments as of ``Weights``.

    Args:
        moved: W' - W, of each weight what this rank holds.
        gradients: dL/dW as the optimizer has left them, as far as it has; likewise.
        optimizer: Whose step it was, where that is known.
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
        name: In records, reports, and as the first part of TensorBoard's tags.
        title: For a chart's head.
        unit: Of its values; empty for a ratio.
        moment: When it is read: one of ``Moment``; None for what follows from the fields of others.
        read: Its fields at that moment: of one call scalars, of weights a ``Part``; empty where it says nothing.
        value: On the host, from a layer's fields; None where they say nothing.
        fields: What ``value`` needs. A layer without one of them has no value.
        every_step: Whether it is read at every step, not only where everything is.
        charted: Whether TensorBoard gets a curve for each layer.
        form: How a table prints it.
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
        size: Those of a micro-batch on one rank; None where nobody knows.
        ranks: How many ranks have shared the batch.
    """

    size: int | None
    ranks: int


@dataclass(frozen=True, eq=False)
class Total:
    """A measure of a step as a whole.

    Args:
        name: In ``Record.totals``.
        value: On the host, from all fields by layer; None where they say nothing.
    """

    name: str
    value: Callable[[Columns, Batch], float | None]


def total_norm(name: str, field: Field) -> Total:
    """The norm over all parameters, biases and gains among them."""
    return Total(name, lambda columns, _: math.hypot(*columns[field].values()) if field in columns else None)
