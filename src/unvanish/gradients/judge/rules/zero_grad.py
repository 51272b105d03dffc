"""Gradients of earlier steps that are still there when those of a step are added."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.left import GRADIENT_LEFT


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.part:
        return
    left = [value for record in seen.records if record.step for value in record.of(GRADIENT_LEFT).values()]
    if len(left) >= 3 and sum(value > 0 for value in left) >= 0.8 * len(left):
        name = next(name for record in seen.records for name in record.of(GRADIENT_LEFT))
        evidence = (
            f"at {sum(v > 0 for v in left)} of {len(left)} steps dL/dW of {name} was not 0 before the backward pass"
        )
        yield rule.found(evidence)


ZERO_GRAD = Rule(
    name="gradients that add up",
    about=("optimizer", "zero_grad_missing"),
    cause="each step follows the sum of all gradients so far, like a momentum of 1.",
    remedies=("optimizer.zero_grad() before each backward pass",),
    look=_look,
    source="p.grad at the first backward pass of a step",
    near="micro-batches whose gradients are accumulated on purpose: before the first of them there is nothing",
)
