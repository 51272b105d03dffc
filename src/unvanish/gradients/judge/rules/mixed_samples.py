"""Answers that depend on the other samples of a batch."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    changed = seen.latest.mixed if seen.latest else 0
    if changed:
        yield rule.found(f"with another first sample, the answers to {changed} of the other samples change as well")


MIXED_SAMPLES = Rule(
    name="samples that mix",
    about=("layers",),
    cause="an operation works along the batch axis, so the output for a sample depends on other samples.",
    remedies=(
        "batch_first=True, if the batch is the first axis",
        "permute instead of view or reshape to swap axes",
        "softmax and attention over positions or classes",
    ),
    look=_look,
    source="two passes in evaluation mode that differ in one sample; only `diagnose` makes them",
    near="batch normalization, which mixes samples in training mode only",
)
