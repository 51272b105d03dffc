"""Clipping that leaves next to nothing of the gradient."""

import math
from collections.abc import Iterator
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import USUAL, Seen
from unvanish.gradients.quantities.clipped import GRADIENT_NORM_CLIPPED
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.update import UPDATE_RATIO

#: Of the gradient this share or less is left.
LEFT = 0.05


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    totals = [record.totals for record in seen.records if record.totals.get(GRADIENT_NORM.name)]
    shares = [t[GRADIENT_NORM_CLIPPED.name] / t[GRADIENT_NORM.name] for t in totals if GRADIENT_NORM_CLIPPED.name in t]
    ratios = [ratio for ratio in seen.medians(UPDATE_RATIO).values() if math.isfinite(ratio)]
    # Where a high learning rate makes up for it, or Adam's division, steps are as large as ever.
    if len(shares) >= 3 and median(shares) < LEFT and not seen.learns and ratios and median(ratios) < USUAL:
        before = median(t[GRADIENT_NORM.name] for t in totals)
        after = median(t[GRADIENT_NORM_CLIPPED.name] for t in totals if GRADIENT_NORM_CLIPPED.name in t)
        evidence = f"clipping removes {1 - median(shares):.1%} of the gradient: its norm is {before:.2g} before"
        yield rule.found(f"{evidence} and {after:.2g} after")


CLIPPING = Rule(
    name="clipped away",
    about=("optimizer", "learning_rate"),
    cause="the steps are that much shorter than the learning rate says.",
    remedies=("a bound ten times the usual norm of the gradient", "no clipping"),
    look=_look,
    source="clipping is for rare outliers (Pascanu et al. 2013: 5 to 10 times the mean norm)",
    near="Adam, whose steps do not depend on the gradient's size",
)
