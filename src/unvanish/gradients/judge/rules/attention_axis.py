"""Attention whose weights add up to 1 along another axis than the one along which they weigh."""

from collections.abc import Iterator

from unvanish.gradients.attention import Astray
from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    for one in seen.latest.astray if seen.latest else ():
        shape = "x".join(map(str, one.shape))
        evidence = f"a softmax over axis {one.axis} of {shape} numbers gives weights for a sum over axis {one.summed}"
        remedies = (f"softmax over the axis that is summed over, dim={one.summed - len(one.shape)}",)
        if one.shape[one.axis] == 1:
            yield rule.found(
                evidence, cause="the softmax of a single number is always 1, so nothing is weighted.", remedies=remedies
            )
        elif one.axis == 0:
            cause = (
                "the weights add up to 1 over the samples of the batch, so the output for one sample depends on the "
                "others."
            )
            yield rule.found(evidence, cause=cause, remedies=remedies)
        elif _is_harmful(one, seen):
            yield rule.found(evidence, remedies=remedies)
        else:
            continue
        return


def _is_harmful(one: Astray, seen: Seen) -> bool:
    return one.is_attention and not seen.learns


ATTENTION_AXIS = Rule(
    name="attention over the wrong axis",
    about=("layers", "activation"),
    cause="the weights of a query do not add up to 1 over the keys; the queries compete for each key instead.",
    remedies=("softmax over the keys' axis, dim=-1",),
    look=_look,
    source="autograd's graph: the axis of the softmax, and the one that the product with the values sums over (Vaswani "
    "et al. 2017, eq. 1)",
    near="linear attention, whose keys are normalized along the sequence that they are then summed over; slots that "
    "compete for their inputs, and are divided by their sum",
)
