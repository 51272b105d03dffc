"""The size of an update relative to the weights: |W' - W| / |W|."""

import math

from unvanish.gradients.quantities.quantity import Field, Numbers, Quantity, Reduction, Update
from unvanish.gradients.quantities.weight import WEIGHT

UPDATE = Field(Reduction.NORM)


def _ratio(numbers: Numbers) -> float:
    moved, weight = numbers[UPDATE], numbers[WEIGHT]
    return moved / weight if weight else math.inf if moved else math.nan


UPDATE_RATIO = Quantity(
    name="update_ratio",
    title="update of W over W",
    unit="",
    moment=Update,
    read=lambda moment: {UPDATE: moment.whole.norms(moment.names, moment.moved)},
    fields=(UPDATE, WEIGHT),
    value=_ratio,
)
