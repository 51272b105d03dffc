"""What the judge finds: a fault by its name, where it is, the numbers that show it, why, and what to do."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unvanish.gradients.judge.seen import Seen


@dataclass(frozen=True)
class Finding:
    """A fault of a network, of its data, or of its training.

    Args:
        name: A few words.
        layers: Where it is; empty where it concerns all.
        evidence: The numbers that show it, a clause.
        cause: Why that harms, a sentence.
        remedies: What to try, what helps most first.
        about: What is at fault: activation, depth, initialization, learning_rate, preprocessing, labels, output_layer,
            loss, optimizer, regularization, epochs, layers, zero_grad_missing or numbers.
        where: Which of several towers or optimizers; empty where there is one.
        step: Since which step it is known.
    """

    name: str
    layers: tuple[str, ...]
    evidence: str
    cause: str
    remedies: tuple[str, ...]
    about: tuple[str, ...]
    where: str = ""
    step: int = 0

    def __str__(self) -> str:
        *first, last = self.remedies
        where = f"in {self.where}, " if self.where else ""
        remedies = f"{', '.join(first)} or {last}" if first else last
        return f"{self.name}: {where}{self.evidence}; {self.cause} Try {remedies}."


@dataclass(frozen=True)
class Rule:
    """How a fault is told.

    Args:
        name: As of ``Finding``; likewise ``about``, ``cause`` and ``remedies``.
        look: The findings, most of the time none.
        source: Where the threshold comes from.
        near: A healthy case that comes near it.
    """

    name: str
    about: tuple[str, ...]
    cause: str
    remedies: tuple[str, ...]
    look: Callable[["Rule", "Seen"], Iterable[Finding]]
    source: str
    near: str

    def found(
        self,
        evidence: str,
        layers: Iterable[str] = (),
        *,
        cause: str = "",
        remedies: Sequence[str] = (),
        about: Sequence[str] = (),
        where: str = "",
    ) -> Finding:
        """A finding of this rule, with what fits the case where that differs."""
        return Finding(
            self.name,
            tuple(layers),
            evidence,
            cause or self.cause,
            tuple(remedies or self.remedies),
            tuple(about or self.about),
            where,
        )
