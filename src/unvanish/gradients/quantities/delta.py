"""delta = dL/dz, where z is a layer's output: the gradient that backpropagation carries."""

import math

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Delta, Field, Numbers, Quantity, Reduction, Scale

DELTA, DELTA_COUNT = Field(Reduction.NORM, Scale.SHARE, is_share=True), Field(is_share=True)


def _read(moment: Delta) -> dict[Field, object]:
    return {DELTA: measure.norm(moment.gradient), DELTA_COUNT: moment.gradient.numel()}


def _norm(numbers: Numbers) -> float | None:
    return numbers[DELTA] if numbers[DELTA_COUNT] else None


def _rms(numbers: Numbers) -> float | None:
    count = numbers[DELTA_COUNT]
    return numbers[DELTA] / math.sqrt(count) if count else None


DELTA_NORM = Quantity(
    name="delta_norm",
    title="norm of delta = dL/dz",
    unit="loss / output",
    moment=Delta,
    read=_read,
    fields=(DELTA, DELTA_COUNT),
    value=_norm,
    charted=False,
)
DELTA_RMS = Quantity(
    name="delta_rms",
    title="RMS of delta = dL/dz",
    unit="loss / output",
    fields=(DELTA, DELTA_COUNT),
    value=_rms,
)
