"""Gradients of earlier steps that are still there when those of a step are added."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.left import GRADIENT_LEFT


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.part:
        return
    left = {name: None for record in seen.records for name in record.of(GRADIENT_LEFT)}
    for name in [*left][:1]:
        # Where it was set to None nothing is left. An adversary finds at every other step what the other has left.
        steps = [record for record in seen.records if record.step and name in record.of(GRADIENT_NORM)]
        found = sum(record.of(GRADIENT_LEFT).get(name, 0.0) > 0 for record in steps)
        if len(steps) >= 3 and found >= 0.8 * len(steps):
            yield rule.found(f"at {found} of {len(steps)} steps dL/dW of {name} was not 0 before the backward pass")


ZERO_GRAD = Rule(
    name="gradients that add up",
    about=("optimizer", "zero_grad_missing"),
    cause="each step follows the sum of all gradients so far, like a momentum of 1.",
    remedies=("optimizer.zero_grad() before each backward pass",),
    look=_look,
    source="p.grad at the first backward pass of a step",
    near="gradients that are accumulated over micro-batches on purpose: before the first of them they are zero; "
    "an adversary's gradient, which remains at the other's steps and is set to zero at its own",
)
