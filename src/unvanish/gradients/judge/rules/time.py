"""A gradient that shrinks or grows on its way from the last time step to the first."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.depth import status_of
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.learns:
        return
    worst, found = 0.0, None
    for name, norms in (seen.latest.through_time if seen.latest else {}).items():
        (first, early), *_, (last, late) = norms.items()
        if first == last or not late or not math.isfinite(early / late):
            continue
        ratio = early / late
        badness = abs(math.log(ratio)) if ratio else math.inf
        is_gated = name in (seen.latest.gated if seen.latest else ())
        # A gate begins half open, and learns to stay open: its first steps say nothing.
        if is_gated and ratio < 1 and not seen.is_stuck:
            continue
        if status_of(ratio) != status_of(_usual(norms)):
            continue  # one leap, as where a layer that blocks share is called in blocks of two kinds
        if f"{status_of(ratio)} through time" == rule.name and badness > worst:
            worst = badness
            evidence = (
                f"in {name}, h_{first} gets {ratio:.2g} times the gradient that h_{last} gets, "
                f"a factor of {ratio ** (1 / (last - first)):.3g} a time step"
            )
            remedies = rule.remedies[1:] if is_gated else rule.remedies
            found = rule.found(evidence, [name], where=seen.part, remedies=remedies)
    if found:
        yield found


def _usual(norms: Mapping[int, float]) -> float:
    """The first over the last, if the gradient changed at each step by the median factor."""
    if 0 in norms.values():
        return 0.0 if next(iter(norms.values())) == 0 else math.inf
    changes = [math.log(norms[t] / norms[after]) / (after - t) for t, after in pairwise(norms)]
    return math.exp(median(changes) * (max(norms) - min(norms)))


VANISHING_IN_TIME = Rule(
    name="vanishing through time",
    about=("activation", "layers", "initialization"),
    cause="each time step multiplies the gradient by the recurrent weights and by the activation's derivative; where "
    "that product is below one, nothing is learnt from early time steps.",
    remedies=(
        "LSTM or GRU cells instead of tanh cells",
        "a forget-gate bias of 1",
        "orthogonal recurrent weights",
        "shorter sequences",
    ),
    look=_look,
    source="Bengio et al. (1994), Hochreiter and Schmidhuber (1997): the same three decades as through depth",
    near="a GRU on 20 steps with torch's initialization: its gates pass half of the state on, and learn to pass more",
)
EXPLODING_IN_TIME = Rule(
    name="exploding through time",
    about=("learning_rate", "initialization", "layers"),
    cause="each time step multiplies the gradient by the recurrent weights and by the activation's derivative; where "
    "that product is above one, the gradient of early time steps is huge.",
    remedies=("LSTM or GRU cells instead of tanh cells", "gradient clipping", "orthogonal recurrent weights"),
    look=_look,
    source="Pascanu et al. (2013): the largest singular value of the recurrent weights",
    near="orthogonal recurrent weights, whose factor is 1",
)
