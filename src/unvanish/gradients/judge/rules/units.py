"""Units that pass no gradient on: ReLUs that are never positive, sigmoids and tanhs at their bounds."""

from collections.abc import Iterator, Mapping

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import ENOUGH, Seen
from unvanish.gradients.quantities.activation import ACTIVATION_MEAN, ACTIVATION_STD
from unvanish.gradients.quantities.dead import DEAD_SHARE
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.saturated import SATURATED_SHARE

#: Nearly all units of one layer: then no gradient passes it.
NEARLY_ALL = 0.9
#: On average over the layers. Half is what deep ReLU networks have by right: there a unit is on for all, or for none.
MOST = 0.75
#: Where so few units of a layer are left, or no more than the network has inputs, what is behind it sees a shadow.
FEW = 2
#: Half of the loss is left: what is dead was needed.
POOR = 0.5
#: What is named beside it.
MANY = 0.5


def _dead(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.progress > ENOUGH:
        return
    # A unit that has fired in any batch is not dead: of batches of one sample half of the units are silent by right.
    shares: dict[str, float] = {}
    for record in seen.records:
        for name, share in record.of(DEAD_SHARE).items():
            shares[name] = min(share, shares.get(name, 1.0))
    shares = {name: share for name, share in shares.items() if name not in seen.outputs}
    if not shares:
        return
    line = {name for line in seen.lines.values() for name in line}
    if seen.is_early and _begins_at_zero(seen):
        # What is fed by a branch's end that begins at zero, as squeeze and excitation behind it, is not dead.
        shares = {name: share for name, share in shares.items() if name in line}
    largest = max((share for name, share in shares.items() if name in line), default=0.0)
    mean = sum(shares.values()) / max(len(shares), 1)
    can_tell = not (seen.is_early or seen.progress > POOR)
    narrow = [name for name in shares if can_tell and name in line and _is_narrow(seen, name, shares[name])]
    if largest < NEARLY_ALL and mean < MOST and not narrow:
        return
    # The very first record is that of the network as it began.
    began = seen.initial(DEAD_SHARE)
    killed = len(seen.first) > 1 and max(began.values(), default=0.0) < NEARLY_ALL
    yield rule.found(
        _evidence("of the units are never positive", shares) + (", and training has made it so" if killed else ""),
        [name for name, share in shares.items() if share >= MANY],
        about=("learning_rate", "activation", "depth", "initialization") if killed else (),
        remedies=("a lower learning rate", "leaky ReLU", "batch normalization") if killed else (),
    )


def _begins_at_zero(seen: Seen) -> bool:
    """Whether a layer that is no ReLU returns zeros alone, and gets a gradient by which it will leave them."""
    means, gradients = seen.initial(ACTIVATION_MEAN), seen.initial(GRADIENT_NORM)
    still = [name for name, std in seen.initial(ACTIVATION_STD).items() if std == 0 == means.get(name)]
    return any(seen.kinds.get(name, "relu") != "relu" and gradients.get(name, 0.0) > 0 for name in still)


def _is_narrow(seen: Seen, layer: str, share: float) -> bool:
    """Whether most of a layer has died, and no more units are left than the network has inputs."""
    units, inputs = seen.units(layer), min((len(given.data.sums) for given in seen.given), default=0)
    alive = round(units * (1 - share))
    return share >= MANY and units > 0 and (alive <= FEW or alive <= inputs < units)


def _saturated(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.learns:
        return
    shares = {n: s for n, s in seen.medians(SATURATED_SHARE).items() if n not in seen.outputs}
    if not shares:
        return
    line = {name for line in seen.lines.values() for name in line}
    largest = max((share for name, share in shares.items() if name in line), default=0.0)
    if largest >= NEARLY_ALL or sum(shares.values()) / len(shares) >= MOST:
        began = seen.initial(SATURATED_SHARE)
        filled = len(seen.first) > 1 and not seen.is_early and max(began.values(), default=0.0) < MANY
        yield rule.found(
            _evidence("of the activations are saturated", shares) + (", and training has made it so" if filled else ""),
            [name for name, share in shares.items() if share >= MANY],
            about=("learning_rate", *rule.about) if filled else (),
            remedies=("a lower learning rate", *rule.remedies[1:]) if filled else (),
        )


def is_blocked(seen: Seen) -> bool:
    """Whether units of either kind stop the gradient."""
    return any(True for rule in (DEAD, SATURATED) for _ in rule.look(rule, seen))


def _evidence(what: str, shares: Mapping[str, float]) -> str:
    """The layers that are worst off, at most three of them."""
    worst = sorted(shares, key=lambda name: -shares[name])[:3]
    mean = sum(shares.values()) / len(shares)
    of_each = ", ".join(f"{shares[name]:.0%} in {name}" for name in worst)
    over = f", on average over {len(shares)} layers: " if len(shares) > 1 else ": "
    return f"{mean:.0%} {what}{over}{of_each}"


DEAD = Rule(
    name="dead",
    about=("activation", "initialization", "depth"),
    cause="a unit whose output is constant, such as a ReLU unit that is never positive, passes no gradient back and "
    "no longer learns.",
    remedies=("leaky ReLU", "He initialization", "batch normalization"),
    look=_dead,
    source="mean-field theory: in deep ReLU networks half of the units are on for all inputs, half for none; with no "
    "more units than inputs in its layers a network bounds no region (Hanin and Sellke 2017)",
    near="positive inputs with one column: half of the first layer's units are rightly silent",
)
SATURATED = Rule(
    name="saturated",
    about=("activation", "initialization", "preprocessing"),
    cause="tanh near -1 or 1, and sigmoid near 0 or 1, are flat: their derivative is almost zero, and so is the "
    "gradient that they pass back.",
    remedies=(
        "Xavier initialization",
        "standardised inputs",
        "batch or layer normalization",
        "ReLU with He initialization",
    ),
    look=_saturated,
    source="Glorot and Bengio (2010), 3: at a bound of 0.99 the derivative is below 2 %",
    near="the output's own sigmoid, which saturates where the network is right and confident",
)
