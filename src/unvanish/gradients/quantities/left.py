"""What a step's backward pass has found in p.grad: nothing, where the gradients of the step before were set to zero.

Seen at one layer, which tells of all that are zeroed together.
"""

from unvanish.gradients.quantities.quantity import Field, Quantity, Reduction, Scale

LEFT = Field(Reduction.NORM, Scale.GRADIENT)

GRADIENT_LEFT = Quantity(
    name="gradient_left",
    title="norm of dL/dW that was there before the backward pass",
    unit="loss / weight",
    fields=(LEFT,),
    value=lambda numbers: numbers[LEFT],
    charted=False,
)
