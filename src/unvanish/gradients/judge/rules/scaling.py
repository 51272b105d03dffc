"""Inputs and targets whose size no initialization and no usual learning rate were made for."""

import math
from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.initialization import begins_high
from unvanish.gradients.judge.rules.units import is_blocked
from unvanish.gradients.judge.seen import ROWS, Seen
from unvanish.gradients.missing import listed
from unvanish.gradients.quantities.spread import SPREAD

#: Below this the first layer learns a thousand times more slowly than the others.
SMALL = 0.03
#: Initializations expect inputs with a mean square of 1; the loss's curvature grows with it.
LARGE = 10.0
#: A loss so many times that of the best constant prediction is of targets at least three deviations from 0.
FAR = 9.0
#: Of a column's mean square, what rounding may leave of a variance of 0.
ALIKE = 1e-12
#: The same of what a layer returns, over its size, in float32.
SAME = 1e-5


def _inputs(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not (seen.is_before or _suffers(seen)):
        return
    for given in seen.given:
        if given.data.rms > LARGE:
            span = f"from {given.data.smallest:.4g} to {given.data.largest:.4g}"
            evidence = f"the data fed to {given.layer} range {span}, with a root mean square of {given.data.rms:.3g}"
            yield rule.found(evidence, [given.layer])
        elif 0 < given.data.rms < SMALL and seen.is_stuck:
            evidence = f"the data fed to {given.layer} have a root mean square of {given.data.rms:.2g}"
            yield rule.found(evidence, [given.layer], cause=_TOO_SMALL)


_TOO_SMALL = "the first layer's gradients are that much smaller than the others', and the data hardly have an effect."


def _alike(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not seen.is_stuck:
        return
    # Of words what the embedding makes of them tells.
    firsts = {next(iter(line)) for line in seen.lines.values() if line} - seen.inputs.keys()
    spreads = [record.of(SPREAD) for record in (*seen.first, *seen.records)]
    same = [name for name in firsts if (s := [of[name] for of in spreads if name in of]) and max(s) < SAME]
    if same:
        yield rule.found(f"what {listed(same)} returns is the same for all samples of a batch", same)
    for layer, data in seen.inputs.items():
        if data.count >= ROWS and all(
            v <= ALIKE * (m * m + v) for v, m in zip(data.variances, data.means, strict=True)
        ):
            value = "0" if not data.rms else f"between {data.smallest:.4g} and {data.largest:.4g}"
            rows = f"all {data.count:.0f} rows that {layer} was fed in the first steps are alike"
            yield rule.found(f"{rows}, and their numbers are {value}", [layer])


def _targets(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not (seen.is_before or _suffers(seen)):
        return
    for head in seen.heads:
        target = seen.target(head)
        if head.loss in ("squared error", "absolute error") and target is not None and target.rms > LARGE:
            evidence = f"the targets have a mean of {target.mean:.4g} and a standard deviation of {target.std:.3g}"
            yield rule.found(evidence, head.layers)


def _suffers(seen: Seen) -> bool:
    """Whether anything shows harm: a loss that starts far above a constant's, no progress, NaN, dead units."""
    is_broken = any(not math.isfinite(loss) for loss in seen.losses) or not all(r.is_finite for r in seen.records)
    return seen.is_stuck or is_broken or is_blocked(seen) or (seen.is_early and _begins_far(seen))


def _begins_far(seen: Seen) -> bool:
    """Whether the first steps go to undo what unscaled numbers make of the loss; many a network learns after all."""
    return bool(begins_high(seen)) or -math.inf < seen.progress < -FAR


ALIKE_INPUTS = Rule(
    name="inputs that are all alike",
    about=("preprocessing",),
    cause="inputs that are the same for all samples cannot tell them apart, so the network can only predict a "
    "constant.",
    remedies=("a look at some inputs after preprocessing", "float division, if integers were divided"),
    look=_alike,
    source=f"no variance in any column over {ROWS} rows or more",
    near="inputs of which a single column differs from sample to sample",
)
INPUTS = Rule(
    name="inputs that are not scaled",
    about=("preprocessing",),
    cause="the first layer's gradients are that much larger than the others', and its units saturate or die.",
    remedies=("standardised inputs", "inputs divided by their largest value", "batch normalization of the input"),
    look=_inputs,
    source="LeCun et al. (1998), Efficient BackProp, 4.3: mean 0 and variance 1; He and Xavier assume the same",
    near="digits from 0 to 16, with a root mean square of 8",
)
TARGETS = Rule(
    name="targets that are not scaled",
    about=("preprocessing", "labels"),
    cause="the output starts near 0, so the first steps push all layers towards the size of the targets.",
    remedies=("standardised targets", "the targets' mean as the initial bias of the output"),
    look=_targets,
    source="the gradient of the squared error is proportional to the targets' distance from the output",
    near="counts up to 20",
)
