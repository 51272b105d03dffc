"""An activation on the output that cannot reach the targets."""

import math
from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.dead import DEAD_SHARE

#: What autograd's graph calls the activations of which the rule is told.
_NAMES = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "Relu": "ReLU",
    "Hardtanh": "hardtanh",
    "Hardsigmoid": "hardsigmoid",
    **dict.fromkeys(("Clamp", "ClampMin", "ClampMax"), "clamp"),
}
#: Targets may lie outside by this share of their own spread: noise at the border is none.
OUTSIDE = 0.1
_SILENT = "the ReLU on the output returns 0 for every sample"


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    dead = seen.medians(DEAD_SHARE)
    relus = [] if seen.heads else [name for name in seen.outputs if seen.kinds.get(name) == "relu"]
    if silent := [name for name in relus if dead.get(name) == 1]:
        yield rule.found(_SILENT, silent, remedies=("no ReLU on the output",))
    for head in seen.heads:
        target = seen.target(head)
        activation = next((name for name in head.path if name in _NAMES), None)
        under = next((name for name in head.path if name in _NAMES and not name.startswith("Clamp")), None)
        if under == "Relu" and head.path[0] == "Log" and not seen.learns:
            evidence = "the loss takes the logarithm of what a ReLU returns, which may be 0"
            yield rule.found(evidence, head.layers, remedies=("a softmax or sigmoid in place of the ReLU",))
        if activation is None or head.loss not in ("squared error", "absolute error") or head.is_scaled(activation):
            continue
        low, high = head.bounds
        name = "ReLU6" if (activation, low, high) == ("Hardtanh", 0, 6) else _NAMES[activation]
        layers, remedies = head.layers, (f"no {name} on the output",)
        if name == "ReLU" and dead.get(head.layer) == 1:
            yield rule.found(_SILENT, layers, remedies=remedies)
        elif target is not None and (
            target.smallest < low - OUTSIDE * target.std or target.largest > high + OUTSIDE * target.std
        ):
            reach = f"and the targets reach from {target.smallest:.3g} to {target.largest:.3g}"
            evidence = f"the {name} on the output is {_range(low, high)}, {reach}"
            yield rule.found(evidence, layers, remedies=remedies)


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"{low:g} at least" if low else "never negative"
    return f"{high:g} at most" if low == -math.inf else f"between {low:g} and {high:g}"


BOUNDED_OUTPUT = Rule(
    name="bounded output",
    about=("output_layer", "activation"),
    cause="the output cannot reach these targets, and at its bound the derivative is 0.",
    remedies=("no activation on the output",),
    look=_look,
    source="the activation's range, and the targets'",
    near="a sigmoid for targets between 0 and 1, a ReLU for counts, a tanh that is multiplied by the targets' bound",
)
