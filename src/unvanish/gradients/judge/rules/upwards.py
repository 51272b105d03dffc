"""A training that makes its loss larger."""

import math
from collections.abc import Iterator
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.descent import DESCENT
from unvanish.gradients.quantities.loss import LOSS

#: A step has this cosine with the gradient or less where it goes up; those of momentum and of Adam are above 0.
UP = -0.1


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        total = seen.latest.totals.get(LOSS.name, math.nan) if seen.latest and seen.head else math.nan
        if head.value > 0 and total < 0 and math.isclose(total, -head.value, rel_tol=0.05, abs_tol=1e-6):
            yield rule.found(f"the loss is {total:.3g}, minus the {head.loss}", about=("loss", "optimizer"))
            return
    records = [record.of(DESCENT) for record in (*seen.records, *seen.first)]
    cosines = [value for values in records for value in values.values() if math.isfinite(value)]
    if len(cosines) > 1 and max(cosines) < UP:
        yield rule.found(f"the steps go along the gradient: their cosine with -dL/dW is {median(cosines):.2f}")


UPWARDS = Rule(
    name="uphill",
    about=("optimizer", "learning_rate"),
    cause="each step goes along the gradient instead of against it, so the loss grows.",
    remedies=("maximize=False", "a positive learning rate", "a loss without the minus sign"),
    look=_look,
    source="a step downhill has a positive cosine with -dL/dW",
    near="momentum that reverses, for one step",
)
