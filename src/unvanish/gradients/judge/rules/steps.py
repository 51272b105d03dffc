"""Steps of the optimizer that are too small or too large for the weights that they change."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median, pstdev
from typing import Any

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.progress import PATIENCE
from unvanish.gradients.judge.seen import USUAL, Seen
from unvanish.gradients.missing import listed
from unvanish.gradients.quantities.cosine import GRADIENT_COSINE
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM, GRADIENT_RMS
from unvanish.gradients.quantities.update import UPDATE_RATIO
from unvanish.gradients.quantities.weight import WEIGHT_NORM

#: A run whose steps add up to this share of the weights, if all went one way, has left them as they were.
STILL = 0.1
#: A step by more of the weights than this undoes what the steps before it have learnt.
THROWN = 0.1
#: A loss that leaps so far has lost what the initialization had given.
LEAP = 10
#: Of a float32, what ten units in its last place are.
FELT = 1e-6
#: Successive gradients that point against each other tell of steps across a valley.
AGAINST = -0.3


def _small(rule: Rule, seen: Seen) -> Iterator[Finding]:
    ratios = _ratios(seen)
    began = {name: value for name, value in seen.at_first(UPDATE_RATIO).items() if math.isfinite(value)}
    if not ratios or seen.is_early or seen.learns:
        return
    middle = max(median(ratios.values()), median(began.values()) if began else 0.0)
    if seen.steps < PATIENCE and middle > USUAL / 10:
        return
    moved = _path(seen, middle)
    if 0 < moved < STILL and (seen.is_stuck or math.isnan(seen.progress) or _falls(seen)):
        share = f"{seen.steps} steps have moved the weights by {100 * moved:.1g} % of their norm at most"
        rates = [
            max(o["lr"] for o in options) for options in _ends(seen) if options and all("lr" in o for o in options)
        ]
        if len(rates) == 2 and rates[1] < rates[0] / 10:
            share += f", as the learning rate has fallen from {rates[0]:.1g} to {rates[1]:.1g}"
            yield rule.found(share, remedies=("a schedule that decays per epoch and not per step", *rule.remedies))
        else:
            yield rule.found(share, remedies=_rates(seen, 10.0) + rule.remedies[1:])


def _path(seen: Seen, usual: float) -> float:
    """By how much of themselves all steps together have changed the weights, had they all gone one way."""
    # Those between the first and the last count, as the rate may have risen or fallen; each stands for the steps up to
    # the next one.
    known = [(r.step, [v for v in r.of(UPDATE_RATIO).values() if math.isfinite(v)]) for r in seen.sample]
    sizes = [(step, median(values)) for step, values in known if values]
    whole = sum((after - step) * size for (step, size), (after, _) in pairwise(sizes))
    return seen.steps * (whole / (sizes[-1][0] - sizes[0][0]) if len(sizes) > 1 else usual)


def _ends(seen: Seen) -> Sequence[Sequence[Mapping[str, Any]]]:
    """The optimizers' options at the first step and at the last."""
    return [record.options for record in ([*seen.first][:1] + [*seen.records][-1:])]


def _large(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.is_early or seen.learns:
        return
    ratios, began = _ratios(seen), seen.at_first(UPDATE_RATIO)
    weights = seen.at_first(WEIGHT_NORM)
    started = [value for name, value in began.items() if math.isfinite(value) and weights.get(name, 0.0) > 0]
    weighs = {name for name, norm in seen.initial(WEIGHT_NORM).items() if norm > 0}
    leaps = [v for name, v in seen.initial(UPDATE_RATIO).items() if name in weighs and math.isfinite(v)]
    cosines = [value for value in seen.medians(GRADIENT_COSINE).values() if math.isfinite(value)]
    evidence = ""
    if ratios and median(ratios.values()) > THROWN:
        evidence = f"a step moves the weights by {100 * median(ratios.values()):.2g} % of their norm"
    elif started and max(started) > 5 * THROWN and (seen.is_stuck or _wild(seen)):
        evidence = f"the first steps moved weights by {100 * max(started):.2g} % of their norm"
    elif (
        leaps and median(leaps) > 1 and math.isfinite(seen.progress) and max(seen.opening) > LEAP * seen.opening[0] > 0
    ):
        higher = max(seen.opening) / seen.opening[0]
        evidence = (
            f"the first steps made the loss {higher:.2g} times as large, and the weights {median(leaps):.2g} times"
        )
    elif cosines and median(cosines) < AGAINST and _is_usual(ratios) and (seen.is_stuck or _wild(seen)):
        evidence = f"successive gradients point against each other: their cosine is {median(cosines):.2f}"
    elif (
        seen.constant > 0 and -math.inf < seen.progress < -0.5 and not (seen.opening and seen.loss < min(seen.opening))
    ):
        evidence = f"the loss is {seen.loss:.3g}, where the best constant prediction has {seen.constant:.3g}"
    if evidence:
        yield rule.found(evidence, remedies=_rates(seen, 0.1) + rule.remedies[1:])


def _ratios(seen: Seen) -> dict[str, float]:
    return {name: value for name, value in seen.medians(UPDATE_RATIO).items() if math.isfinite(value)}


def _is_usual(ratios: dict[str, float]) -> bool:
    """Whether steps are no smaller than steps are."""
    return not ratios or median(ratios.values()) >= USUAL


def _falls(seen: Seen) -> bool:
    """Whether the loss is on its way down still, slowly."""
    half = len(seen.losses) // 2
    return half > 8 and fmean(seen.losses[half:]) < fmean(seen.losses[:half])


def _wild(seen: Seen) -> bool:
    """Whether the loss jumps by as much as it is."""
    known = [loss for loss in seen.losses if math.isfinite(loss)]
    return len(known) > 16 and pstdev(known) > 0.5 * abs(fmean(known))


def _rates(seen: Seen, factor: float) -> tuple[str, ...]:
    rates = {options["lr"] for options in seen.options if isinstance(options.get("lr"), float)}
    known = f", such as {max(rates) * factor:.1g} in place of {max(rates):.1g}" if rates else ""
    return (f"a {'higher' if factor > 1 else 'lower'} learning rate{known}",)


def _still(rule: Rule, seen: Seen) -> Iterator[Finding]:
    ratios, gradients = seen.medians(UPDATE_RATIO), seen.medians(GRADIENT_NORM)
    moved = {name: ratio for name, ratio in ratios.items() if gradients.get(name, 0.0) > 0}
    if len(seen.records) > 2 and not gradients and seen.medians(DELTA_NORM) and seen.is_stuck:
        yield rule.found(
            "dL/dz reaches all layers, and dL/dW is gone before the step",
            cause="the gradients are set to zero before the optimizer has used them.",
            remedies=("zero_grad() after optimizer.step(), or before the backward pass",),
            about=("optimizer", "zero_grad_missing"),
        )
    if len(seen.records) <= 2 or not moved:
        return
    rates = {options.get("lr") for options in seen.options}
    if not any(moved.values()):
        told = f", with a learning rate of {rates.pop():g}" if len(rates) == 1 and rates != {None} else ""
        yield rule.found(f"all {len(moved)} layers get a gradient, and none has changed{told}")
        return
    # A gradient that is too small to change a float vanishes; beside it others that are no larger change theirs.
    weights = seen.medians(WEIGHT_NORM)
    sizes = {name: gradients[name] / weights[name] for name in moved if weights.get(name)}
    enough = min((size for name, size in sizes.items() if moved[name]), default=math.inf)
    sizes = {name: size for name, size in sizes.items() if size >= enough and _is_felt(seen, name, size)}
    records = (*seen.first, *seen.records)
    ever = {name for record in records for name, ratio in record.of(UPDATE_RATIO).items() if ratio}
    # What is frozen may have a gradient of a time before, which is the same at all steps.
    still = [
        name
        for name in sizes
        if name not in ever and len({record.of(GRADIENT_NORM).get(name) for record in records}) > 1
    ]
    if still and not seen.part and all(rate is None or rate > 0 for rate in rates):
        yield rule.found(
            f"{len(still)} of {len(moved)} layers get a gradient and never change: {listed(still)}",
            still,
            cause="no optimizer holds them: it was created before they were, or for another part of the model.",
            remedies=("an optimizer created from model.parameters() after the last change to the model",),
        )


def _is_felt(seen: Seen, name: str, size: float) -> bool:
    """Whether a step of any of the optimizers would change a layer whose gradient has this size beside its weights."""
    entry = seen.medians(GRADIENT_RMS).get(name, math.inf)
    # Adam and its like divide by the gradient's size and eps.
    return all(entry > o["eps"] if o.get("eps") else size * o.get("lr", math.inf) > FELT for o in seen.options)


def _sum(rule: Rule, seen: Seen) -> Iterator[Finding]:
    is_broken = any(not math.isfinite(loss) for loss in seen.losses)
    if seen.is_summed and seen.head and (seen.is_stuck or is_broken):
        rows = math.prod(seen.head.prediction[:-1])
        yield rule.found(f"the loss is a sum over {rows} rows, and its gradient that many times as large as a mean's")


TOO_SMALL = Rule(
    name="steps too small",
    about=("learning_rate", "optimizer", "epochs"),
    cause="the network stays close to its initialization.",
    remedies=("a higher learning rate", "more steps"),
    look=_small,
    source="N steps of relative size u move the weights by N u at most; a usual step is 1e-3 of the weights' norm",
    near="a learning rate that warms up from 0: its first steps are not judged",
)
TOO_LARGE = Rule(
    name="steps too large",
    about=("learning_rate", "optimizer"),
    cause="each step overshoots, so the loss jumps or stays high.",
    remedies=("a lower learning rate", "warmup", "gradient clipping"),
    look=_large,
    source="a usual step is 1e-3 of the weights' norm; ten steps of a tenth are as long as the weights",
    near="Adam's first steps on weights near zero, which settle within ten steps",
)
SUMMED = Rule(
    name="summed loss",
    about=("loss", "learning_rate"),
    cause="a learning rate chosen for a mean is too high by that factor.",
    remedies=("the mean instead of the sum", "a learning rate divided by the number of rows in a batch"),
    look=_sum,
    source="the loss beside the mean of what it compares",
    near="a summed loss with a learning rate that suits it, or Adam's division",
)
STILL_WEIGHTS = Rule(
    name="weights that do not move",
    about=("optimizer", "learning_rate"),
    cause="the optimizer does not change them.",
    remedies=("a learning rate above 0", "optimizer.step() after the backward pass", "float32 weights"),
    look=_still,
    source="the weights are equal before and after every step that was seen",
    near="the first step of a schedule that begins at 0",
)
