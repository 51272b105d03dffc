"""The share of a ReLU's units that are never positive, over the whole batch and all positions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unvanish.gradients import measure
from unvanish.gradients.layers import unit_axis
from unvanish.gradients.quantities.quantity import Field, Output, Quantity, Reduction


def _never_positive(largest: Sequence[Tensor]) -> Tensor | list[float]:
    """The share for each layer; NaN if no value is known, as of a layer that only another rank has run."""
    wide = measure.accumulator(largest[0].device)
    is_mixed = len({part.dtype for part in largest}) > 1
    parts = [part.to(wide) if is_mixed else part for part in largest]  # padded, all become the first one's type
    units = pad_sequence(parts, batch_first=True, padding_value=-torch.inf)
    known = (units > -torch.inf).sum(1).to(wide)
    share: Tensor = (known - (units > 0).sum(1)) / known
    return share.tolist() if share.is_cpu else share


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
