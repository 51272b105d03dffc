"""A gradient that shrinks or grows on its way from the last layer to the first."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.quantities.update import UPDATE_RATIO
from unvanish.gradients.quantities.weight import WEIGHT_NORM

#: Below this share of the last layer's gradient, the first layer's has vanished; above its inverse, it has exploded.
VANISHED = 1e-3
#: A weight with a smaller norm than the first passes less than that share of the gradient on, whatever its shape; it
#: leaves zero where a step moves it by more than the second.
NEAR_ZERO, LEAVING = 0.1, 0.01


def status_of(ratio: float) -> str:
    """What the first layer's gradient over the last layer's is called."""
    return "vanishing" if ratio < VANISHED else "exploding" if ratio > 1 / VANISHED else "healthy"


def ratio_and_factor(line: Mapping[str, float]) -> tuple[float, float]:
    """|delta| of the first layer over that of the last, and the geometric mean of the factors from layer to layer."""
    values = [*line.values()]
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    ratio = values[0] / values[-1] if values and values[-1] else math.nan
    if len(values) < 2 or 0 in values:
        return ratio, math.nan
    return ratio, ratio ** (1 / (len(values) - 1)) if ratio >= 0 else math.nan


def worst(seen: Seen) -> Mapping[str, float]:
    """The trunk whose gradient shrinks or grows most, where one does too much; the longest else."""
    lines = [*seen.lines.values()]
    ill = [line for line in lines if status_of(ratio_and_factor(line)[0]) != "healthy"]
    return max(ill, key=lambda line: abs(math.log(ratio_and_factor(line)[0] or 1e-300)), default=lines[0])


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.learns:
        return
    for where, line in seen.lines.items():
        values = [*line.values()]
        if len(line) < 2 or not all(map(math.isfinite, values)):
            continue
        status, evidence, layers = _silence(line, seen) if 0 in values else _shrinkage(line, seen)
        times = seen.latest.through_time if seen.latest else {}
        if len(line) < 3 and not times.keys().isdisjoint(line):
            continue  # which is through time
        if status == rule.name:
            part = ", ".join(filter(None, (seen.part, where)))
            yield rule.found(evidence, layers, where=part, **_fitting(rule, seen, line))


def _shrinkage(line: Mapping[str, float], seen: Seen) -> tuple[str, str, Sequence[str]]:
    names, values = [*line], [*line.values()]
    ratio, factor = ratio_and_factor(line)
    weights, updates = seen.medians(WEIGHT_NORM), seen.medians(UPDATE_RATIO)
    near = [
        index
        for index, name in enumerate(names)
        if index and weights.get(name, 1.0) < NEAR_ZERO and updates.get(name, 0.0) > LEAVING
    ]
    # Where a few weights have begun at zero, as those of adapters do, the rest of the way is judged.
    rest = ratio * math.prod(values[i] / values[i - 1] for i in near)
    if status_of(rest) == "healthy" and 2 * len(near) <= len(names):
        ratio = rest
    evidence = (
        f"{names[0]} gets {ratio:.2g} times the gradient that {names[-1]} gets, a factor of {factor:.3g} a layer "
        f"over {len(names)} layers"
    )
    return status_of(ratio), evidence, names[:1] if ratio < 1 else names


def _silence(line: Mapping[str, float], seen: Seen) -> tuple[str, str, Sequence[str]]:
    """Where some |delta| is exactly 0: it has shrunk below the smallest number, or a layer has cut it off."""
    names, values = [*line], [*line.values()]
    silent = [index for index, value in enumerate(values) if value == 0]
    deepest, last = silent[-1], values[-1]
    evidence = f"|delta| is exactly 0 in {len(silent)} of {len(names)} layers, the deepest of them {names[deepest]}"
    if last and seen.medians(WEIGHT_NORM).get(names[deepest + 1]) == 0:
        return "healthy", "", ()  # before its first step it lets nothing through, by design
    if last == 0 or (edge := values[deepest + 1] / last) >= VANISHED:
        return "silent", evidence, [names[index] for index in silent]
    factor = edge ** (1 / (len(names) - 2 - deepest))
    evidence += f", after a factor of {factor:.3g} a layer behind it"
    return "vanishing", evidence, [names[index] for index in silent]


def _fitting(rule: Rule, seen: Seen, line: Mapping[str, float]) -> dict[str, Any]:
    """What can help this network, and is not there already; what training has made, a lower rate may prevent."""
    kinds = set(seen.kinds.values())
    is_normalized = bool(seen.normalizations)
    unfit = {
        "a learning rate that warms up": not (seen.is_residual and "LayerNorm" in seen.normalizations),
        "layer normalization in front of each branch": not (seen.is_residual and "LayerNorm" in seen.normalizations),
        "batch or layer normalization": is_normalized,
        "layer normalization": is_normalized,
        "ReLU with He initialization": bool(kinds & {"relu", "leaky_relu", "gelu", "silu"}),
        "Xavier initialization with tanh": not kinds & {"sigmoid", "tanh"},
        "He initialization": not kinds & {"relu", "leaky_relu", "gelu", "silu"},
        "residual connections": seen.is_residual,
    }
    fitting = tuple(remedy for remedy in rule.remedies if not unfit.get(remedy))
    if seen.is_early:
        return {"remedies": fitting}
    before = seen.at_first(STREAM_NORM) | seen.at_first(DELTA_NORM)
    names = [name for name in line if name in before]
    if len(names) < 2 or status_of(ratio_and_factor({n: before[n] for n in names})[0]) != "healthy":
        return {"remedies": fitting}
    remedies = dict.fromkeys((*fitting[:2], "a lower learning rate", *fitting[2:]))
    return {"remedies": tuple(remedies), "about": ("learning_rate", *rule.about)}


def _silent(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.learns:
        return
    # Of several heads one may have no part in the first batches: a detector's for boxes that no object was like.
    fed = [where for where, line in seen.lines.items() if [*line.values()][-1:] != [0.0]]
    for where, line in seen.lines.items():
        if seen.is_early and fed and where not in fed:
            continue
        if len(line) > 1 and 0 in line.values() and all(map(math.isfinite, line.values())):
            status, evidence, layers = _silence(line, seen)
            if status == "silent":
                yield rule.found(evidence, layers, where=", ".join(filter(None, (seen.part, where))))


VANISHING = Rule(
    name="vanishing",
    about=("activation", "depth", "initialization"),
    cause="each layer multiplies the gradient by its weights and by its activation's derivative; where that product is "
    "below one, the gradient shrinks with depth and the early layers barely change.",
    remedies=(
        "a learning rate that warms up",
        "layer normalization in front of each branch",
        "ReLU with He initialization",
        "He initialization",
        "Xavier initialization with tanh",
        "batch or layer normalization",
        "residual connections",
    ),
    look=_look,
    source="a product of Jacobians (Glorot 2010, Schoenholz 2017); a factor of 0.7 over 20 layers makes 1e-3",
    near="ten layers of ReLU with He initialization, whose factor is 1 +- 0.1",
)
EXPLODING = Rule(
    name="exploding",
    about=("depth", "initialization", "activation"),
    cause="each layer multiplies the gradient by its weights and by its activation's derivative; where that product is "
    "above one, the gradient grows with depth and the early layers take steps that are far too large.",
    remedies=("He initialization", "layer normalization", "gradient clipping", "a lower learning rate"),
    look=_look,
    source=VANISHING.source,
    near="batch normalization without residual connections, whose factor is 1.2 (Yang 2019)",
)
SILENT = Rule(
    name="dead",
    about=("activation", "learning_rate", "initialization"),
    cause="a layer whose output is constant passes no gradient back, so the layers before it no longer learn.",
    remedies=("leaky ReLU", "a lower learning rate", "He initialization", "batch normalization"),
    look=_silent,
    source="0 times anything is 0; a gradient that underflows would have shrunk layer by layer",
    near="a weight that begins at zero by design, which lets the gradient through after its first step",
)
