"""Networks through which too little of what comes in can pass: a layer of a unit or two, or too many layers in line."""

import math
from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.progress import PATIENCE
from unvanish.gradients.judge.rules.units import POOR
from unvanish.gradients.judge.seen import Seen

#: Behind so many ReLU layers two inputs that had nothing in common are 97 % alike.
DEEP = 30
#: A quarter of the constant prediction's loss is left: others would have learnt more.
WELL = 0.75


def _is_poor(seen: Seen, most: float) -> bool:
    return not seen.is_early and seen.steps >= PATIENCE and seen.constant > 0 and seen.progress < most


def _narrow(rule: Rule, seen: Seen) -> Iterator[Finding]:
    target = seen.target(seen.head) if seen.head else None
    if target is None or not target.is_one_hot or not _is_poor(seen, POOR):
        return
    classes = sum(mean > 0 for mean in target.means)
    hidden = {name for line in seen.lines.values() for name in [*line][:-1]} - seen.outputs
    narrow = {name: units for name in hidden if 0 < (units := seen.units(name)) < math.log2(classes)}
    if narrow:
        name = min(narrow, key=lambda layer: narrow[layer])
        has = f"{narrow[name]} unit{'s' * (narrow[name] > 1)}"
        yield rule.found(f"all that tells {classes} classes apart has to pass through {name}, which has {has}", [name])


def _deep(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not _is_poor(seen, WELL) or seen.normalizations or seen.is_residual:
        return
    for line in seen.lines.values():
        layers = [name for name in line if seen.kinds.get(name) == "relu"]
        if len(layers) >= DEEP:
            alike = f"{correlation(len(layers)):.1%} alike at initialization"
            yield rule.found(f"{len(layers)} ReLU layers in a row make two unrelated inputs {alike}", layers)
            return


def correlation(layers: int) -> float:
    """Of two orthogonal inputs behind that many wide ReLU layers with He initialization (Cho and Saul 2009, eq. 6)."""
    cosine = 0.0
    for _ in range(layers):
        angle = math.acos(min(cosine, 1.0))
        cosine = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
    return cosine


BOTTLENECK = Rule(
    name="bottleneck",
    about=("layers",),
    cause="so few units can hardly tell the classes apart, and no later layer can recover what is lost there.",
    remedies=("more units in that layer",),
    look=_narrow,
    source="k units that are on or off have 2^k states, which are fewer than the classes",
    near="two units before ten classes, for a plot, in a network that learns",
)
TOO_DEEP = Rule(
    name="too deep for plain layers",
    about=("depth", "activation", "initialization"),
    cause="later layers hardly see a difference between samples, and the gradient is nearly the same for all of them.",
    remedies=("residual connections", "batch or layer normalization", "fewer layers"),
    look=_deep,
    source="the angle between two inputs after each ReLU layer (Cho and Saul 2009); it goes to 0 as 1 / layers (Hayou "
    "et al. 2019)",
    near="thirty layers with residual connections, or plain ones that learn",
)
