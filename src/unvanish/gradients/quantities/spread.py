"""By how much the outputs of a layer without an activation differ from sample to sample, beside their size.

Samples of one call, and of one process, are compared.

Its square is 1 less the mean cosine between two samples, where all are equally long: 0 where a network says the same of
all of them.
"""

import math

from unvanish.gradients import measure
from unvanish.gradients.quantities.activation import SQUARES
from unvanish.gradients.quantities.quantity import Field, Numbers, Output, Quantity

BETWEEN, SAMPLES = Field(is_share=True), Field(is_share=True)


def _read(moment: Output) -> dict[Field, object]:
    z = moment.activation
    if moment.kind != "identity" or z.dim() < 2 or len(z) < 2:
        return {}
    norm = measure.norm(z - z.mean(0))
    return {BETWEEN: norm * norm, SAMPLES: len(z)}


def _spread(numbers: Numbers) -> float | None:
    is_compared = numbers[SAMPLES] > 0 and numbers[SQUARES] > 0
    return math.sqrt(numbers[BETWEEN] / numbers[SQUARES]) if is_compared else None


SPREAD = Quantity(
    name="spread",
    title="deviation of outputs from sample to sample, over their size",
    unit="",
    moment=Output,
    read=_read,
    fields=(BETWEEN, SAMPLES, SQUARES),
    value=_spread,
    charted=False,
    form=".1e",
)
