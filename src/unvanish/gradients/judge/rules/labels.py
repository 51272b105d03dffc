"""Targets that a loss was not made for: labels outside 0 and 1, one class only, classes under a squared error."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import ROWS, Seen


def _outside(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        target = seen.target(head)
        if head.loss == "binary cross-entropy" and target is not None and (target.smallest < 0 or target.largest > 1):
            reach = f"from {target.smallest:.3g} to {target.largest:.3g}"
            yield rule.found(f"the targets of the binary cross-entropy reach {reach}", head.layers)


def _without_sign(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        target = seen.target(head)
        if head.loss == "margin" and target is not None and target.is_labels and min(target.means) < 1:
            yield rule.found(
                f"of {target.count:.0f} labels of a margin loss all are 0 or 1, and none is -1", head.layers
            )


def _constant(rule: Rule, seen: Seen) -> Iterator[Finding]:
    # One of several heads may have one label, as a critic's has that is shown what is real.
    target = seen.target(seen.head) if seen.head else None
    if target is None or target.count < ROWS or len(seen.records) < 2:
        return
    if not any(target.variances):
        yield rule.found(f"all {target.count:.0f} targets that were seen are alike")


def _squared(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        target = seen.target(head)
        if target is None or not target.is_labels or head.loss not in ("squared error", "absolute error"):
            continue
        layers = head.layers
        squashed = not {"Softmax", "Sigmoid"}.isdisjoint(head.path)
        if target.is_one_hot and len(target.sums) > 2 and (squashed or not seen.learns):
            yield rule.found(f"the {head.loss} is taken of {len(target.sums)} classes' one-hot labels", layers)
        elif len(target.sums) == 1 and "Sigmoid" in head.path and seen.is_stuck:
            yield rule.found(f"the {head.loss} is taken of labels 0 and 1, after a sigmoid", layers)


def _binary(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        target = seen.target(head)
        if target is None or head.loss != "binary cross-entropy" or "Softmax" not in head.path:
            continue
        if target.is_one_hot and len(target.sums) > 2 and seen.is_stuck:
            yield rule.found(f"the binary cross-entropy is taken of a softmax over {len(target.sums)} classes")


LABELS_OUTSIDE = Rule(
    name="labels outside 0 and 1",
    about=("labels", "loss"),
    cause="for such labels the loss has no lower bound: it falls forever while the network learns nothing.",
    remedies=(
        "labels 0 and 1",
        "the cross-entropy with one output per class",
        "the squared error, if the target is a number and not a class",
    ),
    look=_outside,
    source="-y ln p - (1 - y) ln(1 - p) has no lower bound for y outside [0, 1]",
    near="soft labels such as 0.9",
)
LABELS_WITHOUT_SIGN = Rule(
    name="labels 0 and 1 in a margin loss",
    about=("labels", "loss"),
    cause="where y is 0, y f is 0 whatever the output f is, so one of the two classes teaches nothing.",
    remedies=("labels -1 and 1, as of 2 y - 1", "the binary cross-entropy"),
    look=_without_sign,
    source="max(0, 1 - y f) and ln(1 + e^-yf) are losses of y = -1 and y = 1 (Cortes and Vapnik 1995)",
    near="a batch of which all labels are 1",
)
CONSTANT_LABELS = Rule(
    name="constant targets",
    about=("labels",),
    cause="all samples have the same target, so there is nothing to learn.",
    remedies=("a check of how the targets are read", "shuffled batches"),
    look=_constant,
    source=f"no variance in {ROWS} targets or more",
    near="a generator's step, whose labels are all real: it is one of several optimizers' steps",
)
SQUARED_LABELS = Rule(
    name="squared error on labels",
    about=("loss",),
    cause="after a softmax or a sigmoid its derivative is close to 0 where the prediction is most wrong.",
    remedies=("the cross-entropy",),
    look=_squared,
    source="dL/dz = 2 (p - y) p (1 - p): see the primer on losses",
    near="XOR with a sigmoid and the squared error, which learns: two classes that are told apart are not flagged",
)
BINARY_OF_MANY = Rule(
    name="binary cross-entropy of many classes",
    about=("loss",),
    cause="each class is scored on its own, so predicting almost 0 for all of them costs little.",
    remedies=("the cross-entropy of all classes",),
    look=_binary,
    source="with C classes the answer 1/C costs ln C / C at most",
    near="several labels at once, each with a sigmoid",
)
