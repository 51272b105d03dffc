"""All that this benchmark has to do with the judge: how it is asked, and what is kept of its answer."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.gradients import GradientRecorder, Report

#: Findings that count for a cause, gravest first.
RANKED = 3


class Judge:
    """The recorder and the report of one run."""

    def __init__(self, model: nn.Module) -> None:
        self.recorder, self.report = GradientRecorder(model), Report()
        #: The step at which each finding was there first.
        self.said: dict[str, int] = {}
        self._optimizers: list[Optimizer] = []

    def __enter__(self) -> Self:
        self.recorder.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.recorder.__exit__(*error)

    def before_backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)
            self.recorder.optimizes(*self._optimizers)
        self.recorder.before_backward(loss)

    def before_step(self, step: int, loss: Tensor, parameters: Iterable[Tensor] | None) -> None:
        self.recorder.before_step(step, parameters, loss=loss)

    def after_step(self, optimizer: Optimizer) -> None:
        self.recorder.after_step(optimizer)

    def validated(self, loss: float) -> None:
        self.report.validated(loss)

    def look(self, step: int) -> list[dict[str, Any]]:
        """What is found in all that was recorded before this step, gravest first."""
        self.report.add(self.recorder.flush())
        self.report.notes = self.recorder.notes
        found = [asdict(finding) for finding in self.report.end.findings]
        for finding in found:
            self.said.setdefault(finding["name"], step)
        return found
