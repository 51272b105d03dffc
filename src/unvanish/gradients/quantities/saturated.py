"""The share of a tanh's or sigmoid's values near its bounds, where the derivative is almost zero."""

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Field, Numbers, Output, Quantity

SATURATED, COUNT = Field(is_share=True), Field(is_share=True)


def _read(moment: Output) -> dict[Field, object]:
    if moment.kind not in ("tanh", "sigmoid"):
        return {}
    return {SATURATED: measure.saturated(moment.activation, moment.kind), COUNT: moment.activation.numel()}


def _share(numbers: Numbers) -> float | None:
    return numbers[SATURATED] / numbers[COUNT] if numbers[COUNT] else None


SATURATED_SHARE = Quantity(
    name="saturated_share",
    title="share of saturated values",
    unit="",
    moment=Output,
    read=_read,
    fields=(SATURATED, COUNT),
    value=_share,
    form=".0%",
)
