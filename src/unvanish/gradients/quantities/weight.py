"""The norm of a layer's weights before the step."""

from unvanish.gradients.quantities.quantity import Field, Quantity, Reduction, Weights

WEIGHT = Field(Reduction.NORM)

WEIGHT_NORM = Quantity(
    name="weight_norm",
    title="norm of W",
    unit="weight",
    moment=Weights,
    read=lambda moment: {WEIGHT: moment.whole.norms(moment.names, moment.weights)},
    fields=(WEIGHT,),
    value=lambda numbers: numbers[WEIGHT],
    charted=False,
)
