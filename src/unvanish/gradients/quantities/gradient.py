"""The size of dL/dW, the gradient of a layer's weights."""

import math

from unvanish.gradients.quantities.quantity import Field, Numbers, Quantity, Reduction, Scale, Weights, total_norm

GRADIENT = Field(Reduction.NORM, Scale.GRADIENT)
#: Number of elements of a layer's weights; known on the host.
SIZE = Field()


def _rms(numbers: Numbers) -> float:
    return numbers[GRADIENT] / math.sqrt(numbers[SIZE])


GRADIENT_NORM = Quantity(
    name="gradient_norm",
    title="norm of dL/dW",
    unit="loss / weight",
    moment=Weights,
    read=lambda moment: {GRADIENT: moment.whole.norms(moment.names, moment.gradients)},
    fields=(GRADIENT,),
    value=lambda numbers: numbers[GRADIENT],
    every_step=True,
)
GRADIENT_RMS = Quantity(
    name="gradient_rms",
    title="RMS of dL/dW",
    unit="loss / weight",
    fields=(GRADIENT, SIZE),
    value=_rms,
    charted=False,
)
TOTAL_GRADIENT = total_norm(GRADIENT_NORM.name, GRADIENT)
