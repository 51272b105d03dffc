"""Weights that begin all alike, or far too large or too small."""

import math
from collections.abc import Iterator
from itertools import pairwise

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.missing import listed
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gain import GAIN
from unvanish.gradients.quantities.saturated import SATURATED_SHARE
from unvanish.gradients.quantities.twins import TWIN_INPUTS, TWIN_UNITS
from unvanish.gradients.quantities.weight import WEIGHT_NORM

#: He's gain is 1.4. Through three layers of this one what comes in grows a thousand times.
LARGE = 8.0
#: Three decades, as through depth.
MANY = 1e3
#: A cross-entropy begins near ln C; this far above it the answers are wrong and sure of it.
SURE = 3.0


def _twins(rule: Rule, seen: Seen) -> Iterator[Finding]:
    units, inputs = seen.initial(TWIN_UNITS), seen.initial(TWIN_INPUTS)
    if seen.learns and not seen.is_early:
        return
    weights, deltas = seen.initial(WEIGHT_NORM), seen.initial(DELTA_NORM)
    found: dict[str, None] = {}
    for line in seen.lines.values():
        pairs = pairwise([name for name in line if name in units])
        alike = [(before, after) for before, after in pairs if units[before] == 1 and inputs.get(after) == 1]
        # A gradient that has come although what follows is 0 came by another way, as past the couplings of a flow.
        found |= {before: None for before, after in alike if weights.get(after) != 0 or not deltas.get(before)}
    if found:
        zero = all(seen.initial(WEIGHT_NORM).get(name) == 0 for name in found)
        how = "begin at 0" if zero else "begin with the same weights"
        yield rule.found(f"all units of {listed(found)} {how}, and what follows treats them alike", found)


def _scale(rule: Rule, seen: Seen) -> Iterator[Finding]:
    gains = seen.initial(GAIN)
    line = {name for line in seen.lines.values() for name in line}
    large = [name for name, gain in gains.items() if gain > LARGE and name in line]
    if seen.learns:
        return
    if large and (harm := _harm(seen)):
        size = f"{max(gains[name] for name in large) / math.sqrt(2):.2g} times as large as He's"
        yield rule.found(f"the weights of {listed(large)} begin {size}, and {harm}", large)
    elif (sure := begins_high(seen)) and not seen.normalizations and all(s.rms < LARGE for s in seen.inputs.values()):
        own = {name: gains[name] / math.sqrt(2) for name in gains if name in line and gains[name] > math.sqrt(2)}
        deltas = [delta for name, delta in seen.initial(DELTA_NORM).items() if name in own and delta > 0]
        # Where the gradient explodes as well, that says more of many layers.
        if (times := math.prod(own.values())) > LARGE and max(deltas) < MANY * min(deltas):
            size = f"{times:.2g} times as large as He's, all together"
            yield rule.found(f"the weights of {listed(own)} begin {size}, and {sure}", own)
        elif seen.is_residual and seen.is_stuck:  # a sum of twenty sigmoids begins as high, and learns
            yield rule.found(f"each branch adds to its input, and {sure}", cause=_ADDED, remedies=_BRANCHES)


def begins_high(seen: Seen) -> str:
    """What shows that the first answers are wrong and sure of it."""
    values = [h.value for r in (seen.first or seen.records)[:1] for h in r.heads if h.loss == "cross-entropy"]
    head = seen.heads[0] if seen.heads else None
    classes = head.prediction[1] if head and len(head.prediction) > 1 else 0
    if values and classes > 1 and values[0] > SURE * math.log(classes):
        return f"the loss starts at {values[0]:.3g}, where ln {classes} is {math.log(classes):.3g}"
    return ""


def _harm(seen: Seen) -> str:
    """What shows that the weights are too large."""
    if any(not record.is_finite for record in seen.records):
        return "a number has left the range of its format"
    if sure := begins_high(seen):
        return sure
    if seen.is_stuck:
        return "the loss does not fall below that of a constant prediction"
    full = [n for n, share in seen.initial(SATURATED_SHARE).items() if share > 0.9 and n not in seen.outputs]
    return f"the activations of {listed(full)} are saturated from the start" if full else ""


_ADDED = "each block adds its branch to its input, so the signal grows block by block and the first outputs are huge."
_BRANCHES = ("layer normalization in front of each branch", "branches whose last layer starts at zero")
TWINS = Rule(
    name="units that are all alike",
    about=("initialization",),
    cause="they get the same gradient, stay identical forever, and act as a single unit.",
    remedies=("He or Xavier initialization", "torch's own initialization"),
    look=_twins,
    source="symmetry: equal rows into a layer and equal columns out of it stay equal",
    near="a branch or a head that begins at zero, such as LoRA's B or a flow's: what comes into it differs by unit",
)
LARGE_START = Rule(
    name="weights that begin too large",
    about=("initialization",),
    cause="the signal is multiplied in every layer, so activations saturate or the loss starts out huge.",
    remedies=("He or Xavier initialization",),
    look=_scale,
    source="mean-field theory: the size of z grows by sigma_w sqrt(fan_in) a layer (Glorot 2010, He 2015, Poole 2016)",
    near="an embedding of N(0, 1), which multiplies nothing",
)
