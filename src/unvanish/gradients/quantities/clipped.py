"""dL/dW as the optimizer sees it, after clipping and before the step."""

from unvanish.gradients.quantities.quantity import Clipped, Field, Quantity, Reduction, total_norm

CLIPPED = Field(Reduction.NORM)

GRADIENT_NORM_CLIPPED = Quantity(
    name="gradient_norm_clipped",
    title="norm of dL/dW after clipping",
    unit="loss / weight",
    moment=Clipped,
    read=lambda moment: {CLIPPED: moment.whole.norms(moment.names, moment.gradients)},
    fields=(CLIPPED,),
    value=lambda numbers: numbers[CLIPPED],
    charted=False,
)
TOTAL_CLIPPED = total_norm(GRADIENT_NORM_CLIPPED.name, CLIPPED)
