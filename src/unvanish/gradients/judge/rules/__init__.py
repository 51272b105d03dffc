"""The judge's rules, one kind of fault a file: what is nearest to the cause comes first."""

from unvanish.gradients.judge.rules.attention_axis import ATTENTION_AXIS
from unvanish.gradients.judge.rules.batch_norm import APART_IN_EVAL, FEW_SAMPLES
from unvanish.gradients.judge.rules.batch_softmax import BATCH_SOFTMAX
from unvanish.gradients.judge.rules.bounded_output import BOUNDED_OUTPUT
from unvanish.gradients.judge.rules.capacity import BOTTLENECK, TOO_DEEP
from unvanish.gradients.judge.rules.clipping import CLIPPING
from unvanish.gradients.judge.rules.collapse import COLLAPSE
from unvanish.gradients.judge.rules.depth import EXPLODING, SILENT, VANISHING
from unvanish.gradients.judge.rules.drift import RANKS_APART
from unvanish.gradients.judge.rules.dropped import DROPPED
from unvanish.gradients.judge.rules.generalization import OVERFITTING, USELESS
from unvanish.gradients.judge.rules.initialization import LARGE_START, TWINS
from unvanish.gradients.judge.rules.labels import (
    BINARY_OF_MANY,
    CONSTANT_LABELS,
    LABELS_OUTSIDE,
    LABELS_WITHOUT_SIGN,
    SQUARED_LABELS,
)
from unvanish.gradients.judge.rules.mixed_samples import MIXED_SAMPLES
from unvanish.gradients.judge.rules.nan import NAN
from unvanish.gradients.judge.rules.no_logarithm import NO_LOGARITHM
from unvanish.gradients.judge.rules.noise import NOISE
from unvanish.gradients.judge.rules.one_output import ONE_OUTPUT
from unvanish.gradients.judge.rules.options import EPS, MOMENTUM
from unvanish.gradients.judge.rules.order import ONE_SIDED_BATCHES
from unvanish.gradients.judge.rules.progress import GROWS, PENALTY, PLATEAU, SLOW, STUCK
from unvanish.gradients.judge.rules.scaling import ALIKE_INPUTS, INPUTS, TARGETS
from unvanish.gradients.judge.rules.shapes import SHAPES
from unvanish.gradients.judge.rules.squashed_logits import SQUASHED_LOGITS
from unvanish.gradients.judge.rules.steps import STILL_WEIGHTS, SUMMED, TOO_LARGE, TOO_SMALL
from unvanish.gradients.judge.rules.time import EXPLODING_IN_TIME, VANISHING_IN_TIME
from unvanish.gradients.judge.rules.units import DEAD, SATURATED
from unvanish.gradients.judge.rules.untrained import DISCONNECTED, NOT_OPTIMIZED, UNKNOWN_WEIGHTS
from unvanish.gradients.judge.rules.upwards import UPWARDS
from unvanish.gradients.judge.rules.zero_grad import ZERO_GRAD

#: The gravest first.
RULES = (
    *(
        RANKS_APART,
        UNKNOWN_WEIGHTS,
        DISCONNECTED,
        NOT_OPTIMIZED,
        ONE_OUTPUT,
        BATCH_SOFTMAX,
        ATTENTION_AXIS,
        MIXED_SAMPLES,
        NO_LOGARITHM,
        SQUASHED_LOGITS,
        SHAPES,
        BOUNDED_OUTPUT,
    ),
    *(LABELS_OUTSIDE, LABELS_WITHOUT_SIGN, CONSTANT_LABELS, SQUARED_LABELS, BINARY_OF_MANY),
    *(UPWARDS, ZERO_GRAD, CLIPPING, STILL_WEIGHTS),
    *(ONE_SIDED_BATCHES, MOMENTUM, FEW_SAMPLES, SUMMED, DROPPED, PENALTY),
    *(ALIKE_INPUTS, INPUTS, TARGETS, TWINS, LARGE_START, NAN, DEAD, SILENT, SATURATED, EXPLODING, VANISHING),
    *(EXPLODING_IN_TIME, VANISHING_IN_TIME, EPS, COLLAPSE, GROWS, TOO_LARGE, TOO_SMALL),
    *(NOISE, BOTTLENECK, STUCK, APART_IN_EVAL, USELESS, TOO_DEEP, PLATEAU, OVERFITTING, SLOW),
)
#: All that may be found, in the same order; "dead" is told in two ways.
NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))
