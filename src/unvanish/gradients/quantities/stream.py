"""The gradient of the residual stream at each sum in which a branch joins it."""

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Field, Quantity, Reduction, Scale, Stream

STREAM = Field(Reduction.NORM, Scale.SHARE, is_share=True)

STREAM_NORM = Quantity(
    name="stream_norm",
    title="norm of dL/d(residual stream), behind each branch",
    unit="loss / output",
    moment=Stream,
    read=lambda moment: {STREAM: measure.norm(moment.gradient)},
    fields=(STREAM,),
    value=lambda numbers: numbers[STREAM],
)
