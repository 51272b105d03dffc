"""A prediction and a target whose shapes broadcast to a table of all pairs."""

from collections.abc import Iterator
from math import prod

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        rows = prod(head.output)
        if len(head.prediction) == 2 and head.prediction == (rows, rows) and rows > 1:
            evidence = f"{rows} predictions and as many targets were compared as a table of {rows} x {rows}"
            yield rule.found(evidence, head.layers)


SHAPES = Rule(
    name="shapes that broadcast",
    about=("loss",),
    cause="every prediction is compared with every target, so the network can do no better than predict their mean.",
    remedies=("squeeze(-1) on the tensor of shape (B, 1)", "view_as with the other tensor"),
    look=_look,
    source="NumPy's rules of broadcasting: (B, 1) with (B,) makes (B, B)",
    near="a loss over all pairs by design: its prediction has more than one axis",
)
