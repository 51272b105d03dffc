"""Says in words what the findings of a stretch of a run come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unvanish.gradients.judge.finding import Finding
from unvanish.gradients.judge.notebook import Displayed
from unvanish.gradients.judge.rules import RULES
from unvanish.gradients.judge.rules.depth import ratio_and_factor, worst
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.missing import Untrained
from unvanish.gradients.quantities.loss import LOSS

_HEALTHY = "the gradient reaches every layer that was looked at"
_NO_LOSS = "; the loss was not given, and is not judged"


@dataclass(frozen=True, repr=False)
class Verdict(Displayed):
    """What is wrong with a network or its training, as far as it was looked at.

    Args:
        findings: The gravest first; none where all that was looked at is healthy.
        line: |delta| along the trunk that is worst off, from the first layer to the last.
        untrained: What does not train although it seems to.
        is_loss_seen: Whether it was known what the loss is, or what it compares.
    """

    findings: tuple[Finding, ...]
    line: Mapping[str, float]
    untrained: Sequence[Untrained] = ()
    is_loss_seen: bool = True

    @property
    def name(self) -> str:
        """That of the gravest finding; healthy where there is none, unknown where too little was seen."""
        if self.findings:
            return self.findings[0].name
        return "healthy" if len(self.line) > 1 else "unknown"

    @property
    def first_over_last(self) -> float:
        """|delta| of the first layer over |delta| of the last."""
        return ratio_and_factor(self.line)[0]

    @property
    def factor_per_layer(self) -> float:
        """The geometric mean of the factors by which |delta| changes from a layer to the one before it."""
        return ratio_and_factor(self.line)[1]

    @property
    def evidence(self) -> str:
        """The layers and the numbers on which the gravest finding rests."""
        if self.findings:
            return self.findings[0].evidence
        if len(self.line) < 2:
            return f"delta = dL/dz was measured at {'1 layer' if self.line else 'no layer'}"
        first, *_, last = self.line
        return (
            f"{first} gets {self.first_over_last:.2g} times the gradient that {last} gets, a factor of "
            f"{self.factor_per_layer:.3g} a layer over {len(self.line)} layers"
        )

    @property
    def cause(self) -> str:
        """Why this happens."""
        if self.findings:
            return self.findings[0].cause
        if self.name == "unknown":
            return "with fewer than two layers nothing can be said about depth."
        missing = ", ".join(str(one) for one in self.untrained if one.kind != "frozen")
        if missing:
            return f"but some of what seems to be trained is not: {missing}."
        return f"{_HEALTHY}{'' if self.is_loss_seen else _NO_LOSS}."

    @property
    def fixes(self) -> list[str]:
        """What to try against it."""
        return list(self.findings[0].remedies) if self.findings else []

    def __repr__(self) -> str:
        return f"Verdict({self.name!r}, {self.evidence!r})"

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.name}: {self.evidence}; {self.cause}"
        return "\nand ".join(map(str, self.findings))


def judge(seen: Seen) -> Verdict:
    """The verdict on what was seen: every rule is asked, each fault is named once."""
    found: dict[tuple[str, str], Finding] = {}
    for rule in RULES:
        for finding in rule.look(rule, seen):
            found.setdefault((finding.name, finding.where), finding)
    untrained = seen.latest.untrained if seen.latest else ()
    is_loss_seen = bool(seen.heads or seen.losses) or any(LOSS.name in record.totals for record in seen.records)
    return Verdict(tuple(found.values()), worst(seen), untrained, is_loss_seen)
