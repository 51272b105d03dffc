"""Clipping that leaves next to nothing of the gradient."""

import math
from collections.abc import Iterator
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import USUAL, Seen
from unvanish.gradients.quantities.clipped import TOTAL_CLIPPED
from unvanish.gradients.quantities.gradient import TOTAL_GRADIENT
from unvanish.gradients.quantities.update import UPDATE_RATIO

#: Of the gradient this share or less is left.
LEFT = 0.05


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    totals = [record.totals for record in seen.records if record.totals.get(TOTAL_GRADIENT.name)]
    shares = [t[TOTAL_CLIPPED.name] / t[TOTAL_GRADIENT.name] for t in totals if TOTAL_CLIPPED.name in t]
    ratios = [ratio for ratio in seen.medians(UPDATE_RATIO).values() if math.isfinite(ratio)]
    # Where a high learning rate makes up for it, or Adam's division, steps are as large as ever.
    if len(shares) >= 3 and median(shares) < LEFT and not seen.learns and ratios and median(ratios) < USUAL:
        before = median(t[TOTAL_GRADIENT.name] for t in totals)
        after = median(t[TOTAL_CLIPPED.name] for t in totals if TOTAL_CLIPPED.name in t)
        evidence = f"clipping removes {1 - median(shares):.1%} of the gradient: its norm is {before:.2g} before"
        yield rule.found(f"{evidence} and {after:.2g} after")


CLIPPING = Rule(
    name="clipped away",
    about=("optimizer", "learning_rate"),
    cause="every step is that much shorter than the learning rate suggests.",
    remedies=("a bound of ten times the usual gradient norm", "no clipping"),
    look=_look,
    source="clipping is for rare outliers (Pascanu et al. 2013: 5 to 10 times the mean norm)",
    near="Adam, whose steps do not depend on the gradient's size",
)
