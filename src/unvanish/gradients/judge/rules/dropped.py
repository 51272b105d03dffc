"""Dropout that leaves too little of a layer."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen

#: One of five units is left.
MOST = 0.8


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    dropout = seen.latest.dropout if seen.latest else 0.0
    if dropout >= MOST and not (seen.is_early or seen.learns):
        yield rule.found(f"dropout sets {dropout:.0%} of a layer's units to 0 at each step")


DROPPED = Rule(
    name="most units dropped",
    about=("regularization",),
    cause="what is left of a layer changes from step to step and tells the next layer almost nothing.",
    remedies=("a dropout of 0.5 at most", "no dropout at first"),
    look=_look,
    source="Srivastava et al. (2014), 7.3: best between 0.4 and 0.8 of the units kept",
    near="a dropout of 0.5",
)
