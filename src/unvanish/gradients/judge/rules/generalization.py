"""What is learnt from the training data, and is of no use for others."""

import math
from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.rules.progress import PATIENCE
from unvanish.gradients.judge.seen import STUCK, Seen

#: By so much the loss on other data has grown again since it was best, and stands above that on the training data.
GROWN = 2.0
#: By so much of itself the constant prediction's loss may differ from some data to others.
UNSURE = 0.15


def _useless(rule: Rule, seen: Seen) -> Iterator[Finding]:
    best = min(seen.validation, default=math.nan)
    # The rows of other data are few at times: what is no better than a constant in the end need not be so by all of it.
    least = 1 - (UNSURE if seen.validation and seen.validation[-1] >= seen.constant else STUCK)
    if seen.steps >= PATIENCE and seen.progress > STUCK and best >= least * seen.constant:
        yield rule.found(
            f"the validation loss has been {best:.3g} at best, where the best constant prediction "
            f"has {seen.constant:.3g}, and the training loss is {seen.loss:.3g}"
        )


def _overfits(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if len(seen.validation) < 2 or not seen.learns:
        return
    best, last = min(seen.validation), seen.validation[-1]
    if last > GROWN * best and best > GROWN * seen.loss:
        evidence = f"the validation loss has grown from {best:.3g} to {last:.3g}"
        yield rule.found(f"{evidence}, and the training loss is {seen.loss:.3g}")


USELESS = Rule(
    name="memorized",
    about=("labels", "regularization", "preprocessing"),
    cause="the network has memorized its samples and does not generalize to others.",
    remedies=(
        "a look at some inputs with their targets",
        "more data",
        "a smaller network",
        "dropout or weight decay",
    ),
    look=_useless,
    source="the entropy of the labels or the variance of the targets; 5 % of it counts as noise",
    near="a network that is overconfident in some wrong predictions late in its run: its best loss counts",
)
OVERFITTING = Rule(
    name="overfitting",
    about=("regularization", "epochs"),
    cause="the network keeps memorizing its training samples.",
    remedies=("the weights of the best step", "dropout or weight decay", "more data", "a smaller network"),
    look=_overfits,
    source="twice the best loss on other data",
    near="a loss on other data that has stopped falling, and rises a little",
)
