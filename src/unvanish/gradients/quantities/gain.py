"""By how much a layer's weights multiply the size of inputs that do not depend on one another: sigma_w sqrt(fan_in).

It is 1 as LeCun and Xavier start, the root of 2 as He does, and 0.58 as torch does.
"""

import math

from unvanish.gradients.quantities.quantity import Field, Quantity
from unvanish.gradients.quantities.weight import WEIGHT

#: How many units a layer has; the host knows it.
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
