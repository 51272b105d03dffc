"""The activation that follows a layer: its mean and its standard deviation over the batch, positions and units."""

import math

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Field, Numbers, Output, Quantity

TOTAL, SQUARES, COUNT = (Field(is_share=True) for _ in range(3))


def _read(moment: Output) -> dict[Field, object]:
    # Sums can be added over calls and ranks. Squares around the call's own mean keep a sigmoid's tiny variance.
    mean, spread = measure.moments(moment.activation)
    count = moment.activation.numel()
    return {TOTAL: mean * count, SQUARES: spread * spread + mean * mean * count, COUNT: count}


def _mean(numbers: Numbers) -> float | None:
    return numbers[TOTAL] / numbers[COUNT] if numbers[COUNT] else None


def _std(numbers: Numbers) -> float | None:
    mean = _mean(numbers)
    if mean is None:
        return None
    variance = numbers[SQUARES] / numbers[COUNT] - mean**2
    # Rounding may leave a negative zero, and NaN stays NaN.
    return math.sqrt(variance) if variance > 0 else 0.0 if variance <= 0 else math.nan


ACTIVATION_MEAN = Quantity(
    name="activation_mean",
    title="mean of the activation",
    unit="activation",
    moment=Output,
    read=_read,
    fields=(TOTAL, COUNT),
    value=_mean,
    form=".2g",
)
ACTIVATION_STD = Quantity(
    name="activation_std",
    title="standard deviation of the activation",
    unit="activation",
    fields=(TOTAL, SQUARES, COUNT),
    value=_std,
    form=".2g",
)
