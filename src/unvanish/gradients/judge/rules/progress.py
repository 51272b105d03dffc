"""A loss that is no better than that of a constant prediction, or that grows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, pstdev
from typing import Any

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import ENOUGH, LEARNS, Seen
from unvanish.gradients.judge.seen import STUCK as STUCK_AT
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.update import UPDATE_RATIO
from unvanish.gradients.quantities.weight import WEIGHT_NORM
from unvanish.gradients.record import Record

#: Steps before anything is said of a loss that has not fallen: plateaus at the start are common.
PATIENCE = 100
#: Standard errors by which a loss has fallen that has not fallen by chance.
SIGMAS = 3
#: As many steps again are worth their time if they would take this share of the constant prediction's loss at the rate
#: of the last ones. The loss has to fall by more than its noise, which a healthy run near its end does too.
MUCH, SURELY = 0.2, 4
#: Of a loss below this share of the constant prediction's it is known that the network learns well.
LEFT = 0.4
#: Penalties that have taken half of the weights are felt, while a tenth of the loss is left.
SHRUNK = 0.5
#: The same where they are nine times what they were added to.
SHRINKS = 0.75
#: A tenth of the loss is no rounding.
FELT = 0.1
#: Where the loss is as many times what it compares at all steps, nothing was added to it.
SAME = 1e-5


def _stuck(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.is_stuck and seen.steps >= PATIENCE and not _is_on_its_way(seen):
        now = f"{seen.loss:.3g}" if math.isfinite(seen.loss) else str(seen.loss)
        evidence = (
            f"after {seen.steps} steps the loss is {now}, and the best constant prediction has {seen.constant:.3g}"
        )
        untrained = seen.latest.untrained if seen.latest else ()
        if frozen := next((one for one in untrained if one.kind == "frozen"), None):
            yield rule.found(
                f"{evidence}; {frozen}",
                frozen.names,
                cause="the frozen layers were not trained for this task, and the layers left to train cannot learn "
                "it alone.",
                remedies=("requires_grad_(True) for more layers", "weights that were pretrained on similar data"),
                about=("layers", *rule.about),
            )
        elif _is_linear(seen):
            yield rule.found(
                f"{evidence}; no activation is between its layers",
                cause=_LINEAR,
                remedies=("an activation, such as ReLU, after each hidden layer", *rule.remedies),
                about=("layers", "activation", *rule.about),
            )
        else:
            yield rule.found(evidence)


def _is_linear(seen: Seen) -> bool:
    """Whether nothing in the network bends what comes in."""
    record = seen.latest
    bends = record is None or record.normalizations or record.gated or record.through_time
    is_known = seen.kinds.keys() >= seen.medians(WEIGHT_NORM).keys()
    # What follows the last layer only maps a plane's height to an answer.
    inner = {kind for name, kind in seen.kinds.items() if name not in seen.outputs}
    # Products of what layers return bend too: in attention or behind a gate not all layers are in one line.
    is_line = any(seen.medians(WEIGHT_NORM).keys() <= line.keys() for line in seen.lines.values())
    return not bends and is_known and is_line and inner <= {"identity"}


def _is_on_its_way(seen: Seen) -> bool:
    """Whether the loss falls, beyond its noise, so fast that as many steps again would leave the constant behind."""
    half = len(seen.losses) // 2
    before, after = seen.losses[:half], seen.losses[half : 2 * half]
    if half < 32 or not _falls(before, after):
        return False
    fall = fmean(before) - fmean(after)
    return seen.progress + fall / half * seen.steps / seen.constant > STUCK_AT


def _grows(rule: Rule, seen: Seen) -> Iterator[Finding]:
    known = [loss for loss in seen.losses if math.isfinite(loss)]
    begin = [loss for loss in seen.opening if math.isfinite(loss)]
    if seen.is_early or len(known) < 16 or len(begin) < 4 or seen.learns or not seen.head:
        return
    if fmean(begin) > 0 and fmean(known) > 2 * max(begin):
        yield rule.found(f"the loss has grown from {fmean(begin):.3g} to {fmean(known):.3g}")


def _penalty(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if not seen.is_early and seen.steps >= PATIENCE and (evidence := _beside(seen)):
        yield rule.found(evidence, cause=_OTHER, remedies=_LESS, about=("loss", *rule.about))
        return
    if seen.is_early or not seen.head or not seen.progress < ENOUGH:
        return
    before, now = seen.initial(WEIGHT_NORM), seen.medians(WEIGHT_NORM)
    left = [now[name] / before[name] for name in now if before.get(name)]
    decay = max((options.get("weight_decay", 0.0) for options in seen.options), default=0.0)
    share = _added(seen, seen.records)
    has_any = share > 0.01 or decay or _added(seen, seen.first[:1]) > 0.5
    if left and has_any and median(left) < (SHRINKS if share > ENOUGH else SHRUNK):
        most = f", and penalties make {share:.0%} of the loss" if ENOUGH < share <= 1 else ""
        yield rule.found(f"the weights have shrunk to {median(left):.0%} of what they began with{most}")
        return
    if seen.learns:
        return
    if 0.5 < share <= 1 and seen.head.is_mean is not False:
        yield rule.found(f"penalties make {share:.0%} of the loss")
        return
    weights, updates = seen.medians(WEIGHT_NORM), seen.medians(UPDATE_RATIO)
    if not decay:
        return
    if is_decoupled := any(is_apart(options) for options in seen.options):
        # What Adam makes of a gradient does not tell its size: the decay's share of the step does.
        pull = max(o.get("weight_decay", 0.0) * o.get("lr", 0.0) for o in seen.options)
        beaten = [name for name in weights if 2 * pull > updates.get(name, math.inf) > 0]
    else:
        gradients = seen.medians(GRADIENT_NORM)
        beaten = [name for name, norm in weights.items() if decay * norm > gradients.get(name, math.inf) > 0]
    if beaten and 2 * len(beaten) > len(weights):
        of = f"in {len(beaten)} of {len(weights)} layers"
        harder = f"a weight decay of {decay:g} pulls at the weights harder than the loss does, {of}"
        most = f"a weight decay of {decay:g} makes most of each step, {of}"
        yield rule.found(most if is_decoupled else harder, beaten)


def is_apart(options: Mapping[str, Any]) -> bool:
    """Whether an optimizer takes weight decay from the weights itself, and does not add it to the gradient."""
    return bool(options.get("decoupled_weight_decay")) or str(options.get("optimizer")) in ("AdamW", "Lion", "Muon")


def _beside(seen: Seen) -> str:
    """What shows that a comparison has come to nothing beside another part of the loss."""
    compared = [head for head in seen.heads if head.loss]
    if len(compared) != 1 or len(seen.heads) < 2 or seen.part:
        return ""
    (head,), constant = compared, seen.constant_of(compared[0])
    values = seen.values(head)
    end = seen.losses[len(seen.losses) // 2 :]
    if _falls(end[: len(end) // 2], end[len(end) // 2 :]):
        return ""  # of two comparisons, as Dice's beside a cross-entropy, one comes after the other
    if not values or not constant > 0 or not fmean(values) > (1 - STUCK_AT) * constant:
        return ""
    first = [(r.totals.get(LOSS.name, math.nan), h.value) for r in seen.first for h in r.heads if h.loss]
    if not fmean((total - value) / total if total else 0.0 for total, value in first or [(1.0, 1.0)]) > FELT:
        return ""
    best = f"{constant:.3g} is what the best constant prediction has"
    return f"the {head.loss} is {fmean(values):.3g}, where {best}, and the loss has another part"


def _added(seen: Seen, records: Sequence[Record]) -> float:
    """The share of the loss that is no comparison; NaN where that is not known."""
    totals = [(r.totals.get(LOSS.name, math.nan), h.value) for r in records for h in r.heads]
    times = [total / value for total, value in totals if value]
    if seen.is_summed or (len(times) > 1 and max(times) - min(times) < SAME * max(times)):
        return 0.0  # a factor
    return fmean((total - value) / total if total else math.nan for total, value in totals) if totals else math.nan


def _slow(rule: Rule, seen: Seen) -> Iterator[Finding]:
    half = len(seen.losses) // 2
    before, after = seen.losses[:half], seen.losses[half : 2 * half]
    if half < 8 or not seen.constant > 0 or not all(map(math.isfinite, (*before, *after))):
        return
    began, now = fmean(before), fmean(after)
    if not 0 < now < 0.9 * began:
        return
    is_far = half >= 32 and not seen.learns and now > (1 - LEARNS) * seen.constant  # by where it has come last
    again = now * (1 - (now / began) ** (seen.steps / half))
    is_sure = began - now > SURELY * noise(before, after) and abs(seen.penalty) < 0.1 * now
    if is_far or (now > LEFT * seen.constant and again > MUCH * seen.constant and is_sure):
        evidence = f"the loss has fallen from {began:.3g} to {now:.3g} over the last {2 * half} steps"
        yield rule.found(evidence if is_far else f"{evidence}, and is still falling")


def _falls(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether a loss has fallen by more than its noise."""
    is_known = bool(before and after) and all(map(math.isfinite, (*before, *after)))
    return is_known and fmean(before) - fmean(after) > SIGMAS * noise(before, after)


def noise(before: Sequence[float], after: Sequence[float]) -> float:
    """The standard error of the difference between the means of two stretches of losses."""
    return math.hypot(pstdev(before) / math.sqrt(len(before)), pstdev(after) / math.sqrt(len(after)))


def _flat(rule: Rule, seen: Seen) -> Iterator[Finding]:
    known = [loss for loss in seen.losses if math.isfinite(loss)]
    if seen.is_early or seen.steps < PATIENCE or len(known) < 32 or not STUCK_AT < seen.progress < 0.5:
        return
    if pstdev(known) < 1e-3 * abs(fmean(known)) and max(map(len, seen.lines.values())) > 1:
        yield rule.found(f"the loss has been {fmean(known):.3g} for {len(known)} steps, to three digits")


_LINEAR = (
    "layers without an activation between them amount to one linear layer, which cannot fit what is not linear, such "
    "as XOR or rings."
)
_OTHER = (
    "the other part pulls all samples towards the same output, as a VAE's divergence from its prior does, and "
    "dominates."
)
_LESS = (
    "a tenth of the other part's weight",
    "a weight that grows from 0 over the first steps",
    "no other part at first",
)
PLATEAU = Rule(
    name="plateau",
    about=("layers", "activation", "learning_rate"),
    cause="the predictions are the same at every step, and poor: too few units are active for better ones.",
    remedies=("another seed", "more units", "leaky ReLU", "a higher learning rate"),
    look=_flat,
    source="a loss without noise that does not change is at a minimum or a point of zero gradient",
    near="a run whose batches differ: its loss is never the same twice",
)
STUCK = Rule(
    name="no better than a constant",
    about=("labels", "preprocessing"),
    cause="the network has learnt at most how frequent each target is; if nothing else was found, the targets may "
    "not match the inputs.",
    remedies=(
        "a look at some inputs with their targets",
        "overfitting a hundred samples on purpose",
        "another learning rate",
    ),
    look=_stuck,
    source="the entropy of the labels or the variance of the targets; 5 % of it counts as noise",
    near="XOR, whose plateau lasts some hundred steps",
)
GROWS = Rule(
    name="diverging",
    about=("learning_rate", "optimizer"),
    cause="each step makes the loss larger.",
    remedies=("a lower learning rate", "gradient clipping", "warmup"),
    look=_grows,
    source="twice the largest loss of the first steps, as a mean over the last",
    near="a spike of a few steps",
)
PENALTY = Rule(
    name="penalized more than taught",
    about=("regularization",),
    cause="the penalty keeps the weights small at the expense of the fit.",
    remedies=("a tenth of the penalty", "no penalty at first"),
    look=_penalty,
    source="the parts of the loss, or weight_decay |W| beside |dL/dW|",
    near="the end of a run that fits its data, where both are in balance",
)
SLOW = Rule(
    name="not done yet",
    about=("epochs", "learning_rate", "optimizer"),
    cause="the run ended while the network was still learning.",
    remedies=("more steps", "a higher learning rate", "Adam instead of plain SGD"),
    look=_slow,
    source="a fall by a tenth within the last steps; or, where it learns, a rate at which as many steps again would "
    "take off a fifth of the constant prediction's loss",
    near="a run whose loss falls, and is so small that little is left to gain",
)
