"""The gradient that was in p.grad before a step's backward pass: zero unless ``zero_grad`` is missing.

Read at one layer, which stands for all that are set to zero together.
"""

from unvanish.gradients.quantities.quantity import Field, Quantity, Reduction, Scale

LEFT = Field(Reduction.NORM, Scale.GRADIENT)

GRADIENT_LEFT = Quantity(
    name="gradient_left",
    title="norm of dL/dW before the backward pass",
    unit="loss / weight",
    fields=(LEFT,),
    value=lambda numbers: numbers[LEFT],
    charted=False,
)
