"""Representations that have become the same for all samples, where the loss only compares them with each other."""

import math
from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.progress import PATIENCE
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.missing import listed
from unvanish.gradients.quantities.activation import ACTIVATION_MEAN, ACTIVATION_STD
from unvanish.gradients.quantities.spread import SPREAD

#: The mean cosine between two samples is above 0.96.
ALIKE = 0.2
#: What is left of how far they were apart: a network that answers 1000 +- 10 has come to differ by more, not by less.
#: A layer that is called twice is compared with itself, by cosines perhaps, for which sizes do not matter.
LEFT = 0.3


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    # A constant prediction to targets is told by the loss, where that is known.
    if seen.is_early or seen.steps < PATIENCE or seen.constant > 0 or not seen.losses:
        return
    began, now = seen.at_first(SPREAD), seen.medians(SPREAD)
    before, after = _sizes(seen, is_first=True), _sizes(seen, is_first=False)
    repeated = seen.latest.repeated if seen.latest else ()
    ends = [name for name in now if name in seen.outputs and seen.units(name) != 1]
    alike = [
        name
        for name in ends
        if now[name] < ALIKE < began.get(name, 0.0)
        and (now[name] * after[name] < LEFT * began[name] * before.get(name, math.nan) or name in repeated)
    ]
    if alike and alike == ends:
        name = alike[0]
        evidence = f"what {listed(alike)} returns differs by {now[name]:.2g} of its size from sample to sample"
        yield rule.found(f"{evidence}, and by {began[name]:.2g} in the first steps", alike)


def _sizes(seen: Seen, *, is_first: bool) -> dict[str, float]:
    """The root mean square of each layer's outputs."""
    of = seen.at_first if is_first else seen.medians
    means, deviations = of(ACTIVATION_MEAN), of(ACTIVATION_STD)
    return {name: math.hypot(means[name], deviations[name]) for name in deviations}


COLLAPSE = Rule(
    name="representations that collapse",
    about=("loss",),
    cause="the loss only compares the network's outputs with each other, and is satisfied when all of them are the "
    "same.",
    remedies=(
        "a stop-gradient on one side, detach()",
        "negative pairs, or a penalty on a falling variance",
        "a lower learning rate",
        "batch normalization at the end",
    ),
    look=_look,
    source="1 - s^2 is the mean cosine between two samples; Chen and He (2021) on SimSiam without its stop-gradient, "
    "Xuan et al. (2020) on hard triplets",
    near="a regression to values far from 0, whose outputs are alike but have become more different",
)
