"""A softmax over the samples of a batch in place of the classes."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        if head.is_over_batch:
            shape = "x".join(map(str, head.prediction))
            evidence = f"a softmax of {head.layer or 'the network'} is over the first axis of {shape} numbers"
            yield rule.found(evidence, head.layers)


BATCH_SOFTMAX = Rule(
    name="softmax over the batch",
    about=("output_layer", "activation", "loss"),
    cause="the probabilities add up to 1 over the samples of the batch, not over the classes, so the classes do not "
    "compete.",
    remedies=("softmax over the classes' axis, dim=-1", "the cross-entropy of the logits"),
    look=_look,
    source="autograd's graph of the loss, where softmax or log_softmax stands in it; the first axis is the batch's",
    near="the softmax of a single sample, whose only axis is that of the classes",
)
