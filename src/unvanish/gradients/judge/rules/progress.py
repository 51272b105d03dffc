"""A loss that is no better than that of a constant answer, or that grows."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, pstdev

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import ENOUGH, LEARNS, Seen
from unvanish.gradients.judge.seen import STUCK as STUCK_AT
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.weight import WEIGHT_NORM
from unvanish.gradients.record import Record

#: Steps before anything is said of a loss that has not fallen: plateaus at the start are common.
PATIENCE = 100
#: Standard errors by which a loss has fallen that has not fallen by chance.
SIGMAS = 3
#: Penalties that have taken half of the weights are felt, while a tenth of the loss is left.
SHRUNK = 0.5
#: Where the loss is as many times what it compares at all steps, nothing was added to it.
SAME = 1e-5


def _stuck(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.is_stuck and seen.steps >= PATIENCE and not _is_on_its_way(seen):
        now = f"{seen.loss:.3g}" if math.isfinite(seen.loss) else str(seen.loss)
        evidence = f"after {seen.steps} steps the loss is {now}, and the best constant answer has {seen.constant:.3g}"
        yield rule.found(evidence)


def _is_on_its_way(seen: Seen) -> bool:
    """Whether the loss falls, beyond its noise, so fast that as many steps again would leave the constant behind."""
    half = len(seen.losses) // 2
    before, after = seen.losses[:half], seen.losses[half : 2 * half]
    if half < 32 or not all(map(math.isfinite, (*before, *after))):
        return False
    fall = fmean(before) - fmean(after)
    noise = math.hypot(pstdev(before), pstdev(after)) / math.sqrt(half)
    return fall > SIGMAS * noise and seen.progress + fall / half * seen.steps / seen.constant > STUCK_AT


def _grows(rule: Rule, seen: Seen) -> Iterator[Finding]:
    known = [loss for loss in seen.losses if math.isfinite(loss)]
    begin = [loss for loss in seen.opening if math.isfinite(loss)]
    if seen.is_early or len(known) < 16 or len(begin) < 4 or seen.learns or not seen.head:
        return
    if fmean(begin) > 0 and fmean(known) > 2 * max(begin):
        yield rule.found(f"the loss has grown from {fmean(begin):.3g} to {fmean(known):.3g}")


def _penalty(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.is_early or not seen.head or not seen.progress < ENOUGH:
        return
    before, now = seen.initial(WEIGHT_NORM), seen.medians(WEIGHT_NORM)
    left = [now[name] / before[name] for name in now if before.get(name)]
    decay = max((options.get("weight_decay", 0.0) for options in seen.options), default=0.0)
    share = _added(seen, seen.records)
    if left and median(left) < SHRUNK and (share > 0.01 or decay or _added(seen, seen.first[:1]) > 0.5):
        yield rule.found(f"the weights have shrunk to {median(left):.0%} of what they began with")
        return
    if seen.learns:
        return
    if 0.5 < share <= 1 and seen.head.is_mean is not False:
        yield rule.found(f"penalties make {share:.0%} of the loss")
        return
    weights, gradients = seen.medians(WEIGHT_NORM), seen.medians(GRADIENT_NORM)
    beaten = [name for name, norm in weights.items() if decay * norm > gradients.get(name, math.inf) > 0]
    if beaten and 2 * len(beaten) > len(weights):
        evidence = f"a weight decay of {decay:g} pulls at the weights harder than the loss does, in {len(beaten)} of"
        yield rule.found(f"{evidence} {len(weights)} layers", beaten)


def _added(seen: Seen, records: Sequence[Record]) -> float:
    """The share of the loss that is no comparison; NaN where that is not known."""
    totals = [(r.totals.get(LOSS.name, math.nan), h.value) for r in records for h in r.heads]
    times = [total / value for total, value in totals if value]
    if seen.is_summed or (len(times) > 1 and max(times) - min(times) < SAME * max(times)):
        return 0.0  # a factor
    return fmean((total - value) / total if total else math.nan for total, value in totals) if totals else math.nan


def _slow(rule: Rule, seen: Seen) -> Iterator[Finding]:
    half = len(seen.losses) // 2
    if seen.is_early or half < 32 or seen.learns or not seen.constant > 0:
        return
    before, after = fmean(seen.losses[:half]), fmean(seen.losses[half:])
    is_far = after > (1 - LEARNS) * seen.constant  # by where it has come last, as it falls
    if math.isfinite(before) and math.isfinite(after) and after < 0.9 * before and is_far:
        yield rule.found(f"the loss has fallen from {before:.3g} to {after:.3g} over the last {2 * half} steps")


def _flat(rule: Rule, seen: Seen) -> Iterator[Finding]:
    known = [loss for loss in seen.losses if math.isfinite(loss)]
    if seen.is_early or seen.steps < PATIENCE or len(known) < 32 or not STUCK_AT < seen.progress < 0.5:
        return
    if pstdev(known) < 1e-3 * abs(fmean(known)) and max(map(len, seen.lines.values())) > 1:
        yield rule.found(f"the loss has been {fmean(known):.3g} for {len(known)} steps, to three digits")


PLATEAU = Rule(
    name="plateau",
    about=("layers", "activation", "learning_rate"),
    cause="the same answer comes at every step, and it is a poor one: too few units are left for a better.",
    remedies=("another seed", "more units", "leaky ReLU", "a higher learning rate"),
    look=_flat,
    source="a loss without noise that does not move is at a minimum, or where the gradient is zero",
    near="a run whose batches differ: its loss never is the same twice",
)
STUCK = Rule(
    name="no better than a constant",
    about=("labels", "preprocessing"),
    cause="what the network has learnt is at most how often each answer is right; where nothing else was found, the "
    "targets may not belong to the inputs.",
    remedies=(
        "a look at some inputs beside their targets",
        "a hundred samples that the network must learn by heart",
        "another learning rate",
    ),
    look=_stuck,
    source="the entropy of the labels, the variance of the targets; 5 % of it is noise",
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
    cause="the weights are kept small at the expense of the answers.",
    remedies=("a tenth of the penalty", "no penalty on the first runs"),
    look=_penalty,
    source="the parts of the loss, or weight_decay |W| beside |dL/dW|",
    near="the end of a run that fits its data, where both are in balance",
)
SLOW = Rule(
    name="not done yet",
    about=("epochs", "learning_rate", "optimizer"),
    cause="the run has ended while the network was learning.",
    remedies=("more steps", "a higher learning rate", "Adam in place of plain SGD"),
    look=_slow,
    source="a tenth of the loss within the last steps",
    near="a run whose loss is below 70 % of a constant answer's: that it learns is known",
)
