"""How many units of a ReLU are never positive, over the whole batch and all positions."""

import math

import torch
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.layers import unit_axis
from unvanish.gradients.quantities.quantity import Field, Output, Quantity, Reduction


def _never_positive(largest: Tensor) -> Tensor:
    """NaN where no unit is known, as of layers that another rank has run and this one not."""
    known = (largest > -torch.inf).sum().to(measure.accumulator(largest.device))
    return (known - (largest > 0).sum()) / known


LARGEST = Field(Reduction.MAX, is_share=True, finish=_never_positive)


def _read(moment: Output) -> dict[Field, object]:
    if moment.kind != "relu":
        return {}
    return {LARGEST: measure.largest_by_unit(moment.activation, unit_axis(moment.module))}


DEAD_SHARE = Quantity(
    name="dead_share",
    title="share of dead ReLU units",
    unit="",
    moment=Output,
    read=_read,
    fields=(LARGEST,),
    value=lambda numbers: None if math.isnan(numbers[LARGEST]) else numbers[LARGEST],
    form=".0%",
)
