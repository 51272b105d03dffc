"""A likelihood, or a divergence, of what is no logarithm of a probability."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        if head.path[:2] == ("Mul", "Softmax"):
            evidence = f"the Kullback-Leibler divergence is given the softmax of {head.layer or 'the network'} itself"
            yield rule.found(evidence, head.layers)
        values = [h.value for record in seen.records for h in record.heads if h.path == head.path]
        below = min((value for value in values if value < 0), default=None)
        if head.path[:1] in (("NllLoss",), ("NllLoss2D",)) and below is not None:
            given = "the softmax" if "Softmax" in head.path else "the output"
            evidence = (
                f"the negative log-likelihood of {given} of {head.layer or 'the network'} is {below:.3g}, below 0"
            )
            yield rule.found(evidence, head.layers)


NO_LOGARITHM = Rule(
    name="likelihood without a logarithm",
    about=("loss", "output_layer"),
    cause="the loss expects log-probabilities; given anything else it has no lower bound, or almost no gradient.",
    remedies=("the cross-entropy of the logits", "log_softmax at the end"),
    look=_look,
    source="-ln p is never below 0",
    near="a network that ends in log_softmax",
)
