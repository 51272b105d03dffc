"""A softmax over a single number, which is always 1."""

from collections.abc import Iterator
from math import prod

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        layers = head.layers
        if 1 in head.softmax_axis:
            yield rule.found("a softmax is over an axis of size 1, so it returns 1 whatever it is given", layers)
        elif head.loss == "cross-entropy" and head.prediction[-1:] == (1,) and prod(head.prediction) > 1:
            evidence = "the cross-entropy is over one class, whose probability is 1 whatever it is given"
            yield rule.found(evidence, layers, about=("loss", "output_layer"))


ONE_OUTPUT = Rule(
    name="softmax over one number",
    about=("activation", "output_layer"),
    cause="the output is a constant, and its derivative is exactly 0.",
    remedies=("sigmoid and the binary cross-entropy", "one output per class", "softmax over the classes' axis"),
    look=_look,
    source="e^z / e^z = 1",
    near="attention over one key",
)
