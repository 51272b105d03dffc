"""The factor by which a layer's weights scale independent inputs: sigma_w sqrt(fan_in).

It is 1 for LeCun's and Xavier's initialization, sqrt(2) for He's, and 0.58 for torch's default.
"""

import math

from unvanish.gradients.quantities.quantity import Field, Quantity
from unvanish.gradients.quantities.weight import WEIGHT

#: Number of units; known on the host.
UNITS = Field()

GAIN = Quantity(
    name="gain",
    title="gain of the weights, sigma_w sqrt(fan_in)",
    unit="",
    fields=(WEIGHT, UNITS),
    value=lambda numbers: numbers[WEIGHT] / math.sqrt(numbers[UNITS]) if numbers[UNITS] else None,
    charted=False,
    form=".2g",
)
