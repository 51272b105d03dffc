"""Whether an optimizer descends: the cosine between its update and -dL/dW."""

import math

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Field, Numbers, Quantity, Reduction, Update
from unvanish.gradients.quantities.update import UPDATE

DOWN, SLOPE = Field(), Field(Reduction.NORM)


def _read(moment: Update) -> dict[Field, object]:
    found = [
        (name, weight, moved, gradient)
        for name, weight, moved, gradient in zip(
            moment.names, moment.weights, moment.moved, moment.gradients, strict=True
        )
        if gradient is not None and gradient.layout is moved.layout and gradient.dtype is moved.dtype
    ]
    if not found:
        return {}
    names, weights, moved, gradients = map(list, zip(*found, strict=True))
    return {
        DOWN: moment.whole.sums(names, measure.products(moved, gradients), weights),
        SLOPE: moment.whole.norms(names, gradients),
    }


def _cosine(numbers: Numbers) -> float:
    scale = numbers[UPDATE] * numbers[SLOPE]
    return -numbers[DOWN] / scale if scale else math.nan


DESCENT = Quantity(
    name="descent",
    title="cosine of the update with -dL/dW",
    unit="",
    moment=Update,
    read=_read,
    fields=(DOWN, SLOPE, UPDATE),
    value=_cosine,
    charted=False,
    form=".2f",
)
