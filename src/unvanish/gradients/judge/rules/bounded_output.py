"""An activation on the output that cannot reach the targets."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.dead import DEAD_SHARE

#: What each activation can return.
_RANGES = {"Sigmoid": ("sigmoid", 0.0, 1.0), "Tanh": ("tanh", -1.0, 1.0), "Softmax": ("softmax", 0.0, 1.0)}
_POSITIVE = ("ReLU", 0.0, float("inf"))
#: Targets may lie outside by this share of their own spread: noise at the border is none.
OUTSIDE = 0.1
_SILENT = "the ReLU on the output returns 0 for every sample"


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not seen.heads:
        ends = [name for name in seen.outputs if seen.kinds.get(name) == "relu"]
        if silent := [name for name in ends if seen.medians(DEAD_SHARE).get(name) == 1]:
            yield rule.found(_SILENT, silent, remedies=("no ReLU on the output",))
    for head in seen.heads:
        target = seen.target(head)
        activation = next((name for name in head.path if name in (*_RANGES, "Relu")), None)
        if activation == "Relu" and head.path[0] == "Log" and not seen.learns:
            evidence = "the loss takes the logarithm of what a ReLU returns, which may be 0"
            yield rule.found(evidence, head.layers, remedies=("a softmax or sigmoid in place of the ReLU",))
        if activation is None or head.loss not in ("squared error", "absolute error"):
            continue
        name, low, high = _RANGES.get(activation, _POSITIVE)
        layers, remedies = head.layers, (f"no {name} on the output",)
        if name == "ReLU" and seen.medians(DEAD_SHARE).get(head.layer) == 1:
            yield rule.found(_SILENT, layers, remedies=remedies)
        elif target is not None and (
            target.smallest < low - OUTSIDE * target.std or target.largest > high + OUTSIDE * target.std
        ):
            bounds = "never negative" if name == "ReLU" else f"between {low:g} and {high:g}"
            reach = f"and the targets reach from {target.smallest:.3g} to {target.largest:.3g}"
            yield rule.found(f"the {name} on the output is {bounds}, {reach}", layers, remedies=remedies)


BOUNDED_OUTPUT = Rule(
    name="bounded output",
    about=("output_layer", "activation"),
    cause="what the targets ask for cannot be reached, and at the bound the derivative is 0.",
    remedies=("no activation on the output",),
    look=_look,
    source="the activation's range, and the targets'",
    near="a sigmoid for targets between 0 and 1, a ReLU for counts",
)
