"""All that this benchmark has to do with the judge: how it is asked, and which causes its words stand for."""

import inspect
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.gradients import GradientRecorder, Report

#: Findings that count for a cause, gravest first.
RANKED = 3
#: Causes of which a finding speaks, where it does not say so itself in ``about``.
ABOUT: dict[str, tuple[str, ...]] = {
    "nan": ("learning_rate", "initialization", "activation", "preprocessing"),
    "dead": ("activation", "initialization", "learning_rate"),
    "saturated": ("activation", "initialization", "preprocessing"),
    "vanishing": ("depth", "activation", "initialization"),
    "exploding": ("depth", "activation", "initialization"),
    "vanishing through time": ("depth", "layers", "initialization"),
    "exploding through time": ("depth", "layers", "initialization"),
    "disconnected": ("layers", "loss"),
}
_TAKES_LOSS = "loss" in inspect.signature(GradientRecorder.before_step).parameters


@dataclass
class Finding:
    """Something that is not well, as it was said."""

    name: str
    evidence: str
    cause: str = ""
    layers: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)


class Judge:
    """The recorder and the report of one run."""

    def __init__(self, model: nn.Module) -> None:
        self.recorder, self.report = GradientRecorder(model), Report()
        #: The step at which each finding was there first.
        self.said: dict[str, int] = {}
        self._stack = ExitStack()
        self._optimizers: list[Optimizer] = []

    def __enter__(self) -> Self:
        self._stack.enter_context(self.recorder)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def before_backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)
            self.recorder.optimizes(*self._optimizers)
        self.recorder.before_backward(loss)

    def before_step(self, step: int, loss: Tensor, parameters: Iterable[Tensor] | None) -> None:
        more: dict[str, Any] = {"loss": loss} if _TAKES_LOSS else {}
        self.recorder.before_step(step, parameters, **more)

    def after_step(self, optimizer: Optimizer) -> None:
        self.recorder.after_step(optimizer)

    def validated(self, loss: float) -> None:
        self.report.validated(loss)

    def look(self, step: int) -> list[dict[str, Any]]:
        """What is found in all that was recorded before this step, gravest first."""
        self.report.add(self.recorder.flush())
        self.report.notes = self.recorder.notes
        found = findings(self.report.end)
        for finding in found:
            self.said.setdefault(finding.name, step)
        return [asdict(finding) for finding in found]


def findings(verdict: Any) -> list[Finding]:
    """What a verdict finds: as many as it tells, or itself where it is one word."""
    told = getattr(verdict, "findings", None)
    if told is None:
        told = () if verdict.name in ("healthy", "unknown") else (verdict,)
    return [
        Finding(
            one.name,
            one.evidence,
            one.cause,
            list(getattr(one, "layers", ())),
            list(getattr(one, "about", None) or ABOUT.get(one.name, ())),
        )
        for one in told
    ]
