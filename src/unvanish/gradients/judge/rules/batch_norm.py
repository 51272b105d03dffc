"""Batch normalization whose statistics are of too few samples, or are others when the network is used."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen

#: Of two samples only their order is left.
FEW = 2
#: A loss on other data above so many times that of the constant prediction is not the fault of what was learnt.
APART = 1.5


def _few(rule: Rule, seen: Seen) -> Iterator[Finding]:
    rows = [given.data.count for record in (*seen.first, *seen.records) for given in record.given]
    if rows and max(rows) <= FEW and "BatchNorm" in seen.normalizations and not (seen.is_early or seen.learns):
        yield rule.found(f"each batch has {max(rows):.0f} samples, and is normalized by their mean and variance alone")


def _apart(rule: Rule, seen: Seen) -> Iterator[Finding]:
    best = min(seen.validation, default=0.0)
    if "BatchNorm" in seen.normalizations and seen.learns and best > APART * seen.constant:
        yield rule.found(
            f"the loss is {seen.loss:.3g} in training and {best:.3g} at best in evaluation, where the best constant "
            f"prediction has {seen.constant:.3g}"
        )


FEW_SAMPLES = Rule(
    name="batch normalization of too few samples",
    about=("preprocessing", "layers"),
    cause="of two samples, normalization keeps only which one is larger.",
    remedies=("larger batches", "group or layer normalization"),
    look=_few,
    source="batch normalization turns any two numbers into -1 and 1 (Wu and He 2018 on small batches)",
    near="batches of four, in a network that learns",
)
APART_IN_EVAL = Rule(
    name="training and evaluation far apart",
    about=("layers", "regularization"),
    cause="in training, batch normalization uses the statistics of each batch; the running averages for evaluation "
    "are far from these.",
    remedies=(
        "more steps, or a higher momentum of the running averages",
        "shuffled training data",
        "group or layer normalization",
    ),
    look=_apart,
    source="evaluation normalizes by running averages in place of the batch (Ioffe and Szegedy 2015, section 3.1)",
    near="a network that has memorized its samples: at its best it is not that much worse than a constant prediction",
)
