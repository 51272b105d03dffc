"""Batches that hold few of the classes each, because the data are not shuffled."""

from collections.abc import Iterator
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen, entropy

#: Classes from which on it is told: two of them may be told apart in turns, as adversaries do it.
CLASSES = 3
#: A batch whose labels have less than this share of the entropy that is to be expected is one-sided.
ONE_SIDED = 0.5


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    target = seen.target(seen.head) if seen.head else None
    if target is None or not target.is_labels or not target.is_one_hot:
        return
    classes, whole = sum(mean > 0 for mean in target.means), entropy(target.means)
    records = {record.step: record for record in (*seen.first, *seen.records)}.values()
    batches = [head.target for record in records for head in record.heads if head.target]
    batches = [batch for batch in batches if batch.count >= classes]
    if classes < CLASSES or len(batches) < 2:
        return
    # Of n rows drawn at random the entropy comes out too small, by (classes - 1) / 2 n.
    shares = [entropy(batch.means) / (whole - (classes - 1) / (2 * batch.count)) for batch in batches]
    if median(shares) < ONE_SIDED:
        few = median(sum(mean > 0 for mean in batch.means) for batch in batches)
        yield rule.found(f"a batch has {few:.0f} of the {classes} classes that were seen, of {len(batches)} batches")


ONE_SIDED_BATCHES = Rule(
    name="batches of one class",
    about=("preprocessing", "labels"),
    cause="the network follows the class of the moment and forgets the others.",
    remedies=("batches that are shuffled, as by shuffle=True of the DataLoader",),
    look=_look,
    source="half of the entropy of n rows drawn at random: that of all labels less (classes - 1) / 2n (Miller 1955)",
    near="small batches of many classes, which cannot have all of them",
)
