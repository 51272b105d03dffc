"""The table of quantities: what is read, how it is reduced, and its name. One file a quantity."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from unvanish.gradients.quantities.activation import ACTIVATION_MEAN, ACTIVATION_STD
from unvanish.gradients.quantities.adam import ADAM_RMS, ADAM_STEP
from unvanish.gradients.quantities.clipped import GRADIENT_NORM_CLIPPED, TOTAL_CLIPPED
from unvanish.gradients.quantities.cosine import GRADIENT_COSINE
from unvanish.gradients.quantities.dead import DEAD_SHARE
from unvanish.gradients.quantities.delta import DELTA_NORM, DELTA_RMS
from unvanish.gradients.quantities.descent import DESCENT
from unvanish.gradients.quantities.drift import DRIFT
from unvanish.gradients.quantities.gain import GAIN
from unvanish.gradients.quantities.gradient import GRADIENT_NORM, GRADIENT_RMS, TOTAL_GRADIENT
from unvanish.gradients.quantities.left import GRADIENT_LEFT
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.noise import NOISE_BATCH, NOISE_SIGNAL, NOISE_VARIANCE
from unvanish.gradients.quantities.quantity import (
    Batch,
    Clipped,
    Delta,
    Field,
    Initial,
    Moment,
    Output,
    Part,
    Quantity,
    Reduction,
    Scale,
    Stream,
    Successive,
    Update,
    Weights,
)
from unvanish.gradients.quantities.saturated import SATURATED_SHARE
from unvanish.gradients.quantities.spread import SPREAD
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.quantities.twins import TWIN_INPUTS, TWIN_UNITS
from unvanish.gradients.quantities.update import UPDATE_RATIO
from unvanish.gradients.quantities.weight import WEIGHT_NORM

#: In the order of reports and charts. ``saturated_share`` and ``dead_share`` exclude each other.
QUANTITIES = (
    *(DELTA_RMS, DELTA_NORM, STREAM_NORM, GRADIENT_NORM, GRADIENT_NORM_CLIPPED, GRADIENT_RMS, UPDATE_RATIO),
    *(GRADIENT_COSINE, ACTIVATION_MEAN, ACTIVATION_STD, SATURATED_SHARE, DEAD_SHARE, WEIGHT_NORM, ADAM_RMS, ADAM_STEP),
    *(DESCENT, GAIN, SPREAD, GRADIENT_LEFT, TWIN_UNITS, TWIN_INPUTS, DRIFT),
)
#: Quantities of a step as a whole.
TOTALS = (TOTAL_GRADIENT, TOTAL_CLIPPED, LOSS, NOISE_VARIANCE, NOISE_SIGNAL, NOISE_BATCH)

#: What is read at each moment, and whether it is at every step.
READERS: dict[type, list[tuple[Callable[[Any], Mapping[Field, Any]], bool]]] = {
    moment: [(q.read, q.every_step) for q in QUANTITIES if q.moment is moment and q.read is not None]
    for moment in get_args(Moment)
}

__all__ = [
    "QUANTITIES",
    "READERS",
    "TOTALS",
    "Batch",
    "Clipped",
    "Delta",
    "Field",
    "Initial",
    "Output",
    "Part",
    "Quantity",
    "Reduction",
    "Scale",
    "Stream",
    "Successive",
    "Update",
    "Weights",
]
