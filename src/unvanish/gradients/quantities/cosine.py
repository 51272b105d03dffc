"""The cosine between a layer's gradient and that of the step before: whether successive batches agree."""

import math

from unvanish.gradients import measure
from unvanish.gradients.quantities.gradient import GRADIENT
from unvanish.gradients.quantities.quantity import Field, Numbers, Quantity, Reduction, Scale, Successive

PRODUCT, PREVIOUS = Field(scale=Scale.GRADIENT), Field(Reduction.NORM)


def _read(moment: Successive) -> dict[Field, object]:
    products = measure.products(moment.previous, moment.gradients)
    return {
        PRODUCT: moment.whole.sums(moment.names, products, moment.gradients),
        PREVIOUS: moment.norms,
    }


def _cosine(numbers: Numbers) -> float:
    scale = numbers[PREVIOUS] * numbers[GRADIENT]
    return numbers[PRODUCT] / scale if scale else math.nan


GRADIENT_COSINE = Quantity(
    name="gradient_cosine",
    title="cosine of dL/dW with the step before",
    unit="",
    moment=Successive,
    read=_read,
    fields=(PRODUCT, PREVIOUS, GRADIENT),
    value=_cosine,
    form=".2f",
)
