"""A loss that makes probabilities of what it is given, and is given what was squashed before."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen

#: A second log-softmax changes nothing, and is not among them.
_SQUASHES = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "ReLU"}


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for head in seen.heads:
        # The loss's own log-softmax is the first of the path.
        own = "LogSoftmax" if "LogSoftmax" in head.path else ""
        rest = list(head.path)
        if own:
            rest = rest[rest.index(own) + 1 :]
        again = next((name for name in rest if name in _SQUASHES), None)
        if not head.is_logits or again is None or head.is_scaled(again):
            continue
        if again == "Relu" and not seen.is_stuck:
            continue  # it leaves room above, and some networks are built so
        name, loss = _SQUASHES[again], "softmax" if own else "sigmoid"
        evidence = f"the output of {head.layer or 'the network'} goes through {name}, and then through the {loss} of"
        yield rule.found(
            f"{evidence} the {head.loss}",
            head.layers,
            remedies=(f"no {name} at the end: the loss expects logits", "a loss on probabilities"),
        )


SQUASHED_LOGITS = Rule(
    name="squashed logits",
    about=("output_layer", "loss", "activation"),
    cause="logits that are confined to a fixed range cannot express a confident prediction, and most of the gradient "
    "is lost.",
    remedies=("no activation at the end: the loss expects logits",),
    look=_look,
    source="autograd's graph of the loss; after softmax the cross-entropy of C classes stays above ln(e + C - 1) - 1",
    near="logits that are capped at 30 by 30 tanh(z / 30), and a ReLU in front of the cross-entropy of a network that "
    "learns, as SqueezeNet has it",
)
