"""Batches that hold few of the classes each, because the data are not shuffled."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen, entropy, key_of

#: Classes from which on it is told: two of them may be told apart in turns, as adversaries do it.
CLASSES = 3
#: A batch whose labels have less than this share of the entropy that is to be expected is one-sided.
ONE_SIDED = 0.5
#: By chance n rows differ from all labels by (classes - 1) / 2n nats. Where one class is nearly all there is, batches
#: without another one are no further off.
BY_CHANCE = 2.0


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    target = seen.target(seen.head) if seen.head else None
    if seen.head is None or target is None or not target.is_labels or not target.is_one_hot:
        return
    key = key_of(seen.head)
    classes, whole = sum(mean > 0 for mean in target.means), entropy(target.means)
    records = {record.step: record for record in (*seen.first, *seen.records)}.values()
    batches = [head.target for record in records for head in record.heads if head.target and key_of(head) == key]
    batches = [batch for batch in batches if batch.count >= classes and len(batch.sums) == len(target.sums)]
    if classes < CLASSES or len(batches) < 2:
        return
    # Of n rows drawn at random the entropy comes out too small, by as much as they differ from all labels.
    chances = [(classes - 1) / (2 * batch.count) for batch in batches]
    both = [*zip(batches, chances, strict=True)]
    off = fmean(_divergence(batch.means, target.means) / chance for batch, chance in both)
    if off > BY_CHANCE and median(entropy(batch.means) - ONE_SIDED * (whole - chance) for batch, chance in both) < 0:
        few = median(sum(mean > 0 for mean in batch.means) for batch in batches)
        yield rule.found(f"a batch has {few:.0f} of the {classes} classes that were seen, of {len(batches)} batches")


def _divergence(shares: Sequence[float], of_all: Sequence[float]) -> float:
    """Of Kullback and Leibler, in nats."""
    return sum(q * math.log(q / p) if p else math.inf for q, p in zip(shares, of_all, strict=True) if q > 0)


ONE_SIDED_BATCHES = Rule(
    name="batches of one class",
    about=("preprocessing", "labels"),
    cause="the network follows the current class and forgets the others.",
    remedies=("shuffled batches, as with shuffle=True in the DataLoader",),
    look=_look,
    source="half of the entropy of n rows drawn at random: that of all labels less (classes - 1) / 2n (Miller 1955)",
    near="small batches of many classes, or of rare ones, which cannot have all of them",
)
