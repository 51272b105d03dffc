"""What came of a run: result.json in its folder, whether the run has finished, was stopped or has failed."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import unvanish
from unvanish.command.run_folder import write_text
from unvanish.gradients import Report
from unvanish.gradients.judge.report import json_number

RESULT = "result.json"
#: The states of a run. One that was killed stays "running", as it could not say so.
RUNNING, FINISHED, STOPPED, PRUNED, FAILED = "running", "finished", "stopped", "pruned", "failed"


@dataclass(frozen=True)
class Result:
    """What is known of a run; NaN is what was not measured.

    Args:
        recipe: What its runs are filed under, such as mlp/digits.
        seed: Of the weights, dropout and the order of the batches.
        state: finished, stopped, pruned, failed, or running: of a run that is trained now, or was killed.
        error: Why it has failed or was stopped, in one line.
        metric: The metric that epochs are compared by.
        mode: Whether the largest value of it is the best (max), or the smallest (min).
        scores: All metrics of the validation at the best epoch, and of the test where it was asked for.
        best_epoch: The first is 0; NaN where none was validated.
        best_step: Of the optimizer, at the end of the best epoch.
        verdict: On the last ten steps at which everything was measured, after that on the first ten where they differ.
        findings: Those of the last ten steps, the gravest first: name, layers, evidence, cause, remedies.
        first_over_last_start: |delta| of the first layer over that of the last, in the first ten steps.
        first_over_last_end: The same in the last ten steps at which everything was measured.
        factor_per_layer: By how much |delta| changes from a layer to the one before it, in the same.
        early_over_late_start: |dL/dh_t| (of an LSTM, of h and its cell) of the first time step over that of the last,
            of the first recurrent layer in the tenth step.
        early_over_late_end: The same in the last step at which it was measured.
        first_update_ratio: |update| / |weight| of the first layer, in the first ten steps.
        noise_scale: The gradient noise scale in samples, over the second half of the steps.
        parameters: Numbers that are trained.
        steps: Of the optimizer.
        seconds: Time of the training, validation included.
        seconds_per_epoch: The same for as many steps as an epoch has.
        curve: At each validation the ``epoch``, the ``step``, the ``seconds`` since the start and the metrics.
        data: What tells the training data from others: the shape and a checksum of each tensor; empty where unknown.
        versions: Of Python and of what computes.
    """

    recipe: str
    seed: int
    state: str = RUNNING
    error: str = ""
    metric: str = ""
    mode: str = "max"
    scores: dict[str, float] = field(default_factory=dict)
    best_epoch: float = math.nan
    best_step: float = math.nan
    verdict: str = ""
    findings: list[dict[str, Any]] = field(default_factory=list)
    first_over_last_start: float = math.nan
    first_over_last_end: float = math.nan
    factor_per_layer: float = math.nan
    early_over_late_start: float = math.nan
    early_over_late_end: float = math.nan
    first_update_ratio: float = math.nan
    noise_scale: float = math.nan
    parameters: int = 0
    steps: int = 0
    seconds: float = math.nan
    seconds_per_epoch: float = math.nan
    curve: list[dict[str, float]] = field(default_factory=list)
    data: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def validation(self) -> float:
        """The best value of the metric on the validation split."""
        return self.scores.get(f"val/{self.metric}", math.nan)

    @property
    def test(self) -> float:
        """The metric on the test split, of the best checkpoint; of the last weights where none was kept."""
        return self.scores.get(f"test/{self.metric}", math.nan)

    def with_gradients(self, report: Report) -> Self:
        """The same, with what the gradients did; as it is where they were not recorded."""
        if not report.steps:
            return self
        start, end, values = report.start, report.end, report.as_dict()
        layers, times = values["layers"], values["through_time"]
        return replace(
            self,
            verdict=end.name if start.name == end.name else f"{start.name} then {end.name}",
            findings=values["findings"],
            first_over_last_start=start.first_over_last,
            first_over_last_end=end.first_over_last,
            factor_per_layer=end.factor_per_layer,
            early_over_late_start=_early_over_late(times.get("start", {})),
            early_over_late_end=_early_over_late(times.get("end", {})),
            first_update_ratio=float(layers[0].get("update_ratio", {}).get("start", "nan")) if layers else math.nan,
            noise_scale=report.noise_scale,
        )

    def as_dict(self) -> dict[str, Any]:
        """In what JSON knows."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    def save(self, folder: Path) -> None:
        """Write it to a run's folder, whole or not at all."""
        write_text(folder / RESULT, json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a run's folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of another version of this package.
        """
        values = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        known = cls.__dataclass_fields__
        if not isinstance(values, dict) or values.keys() != known.keys():
            raise ValueError(f"{folder / RESULT} is damaged, or of another version of this package")
        numbers = {key: float(value) for key, value in values.items() if known[key].type is float}  # "nan" is one
        curve = [_numbers(point) for point in values["curve"]]
        return cls(**values | numbers | {"curve": curve, "scores": _numbers(values["scores"])})


def versions() -> dict[str, str]:
    """Of Python and of what computes."""
    return {
        "python": platform.python_version(),
        "unvanish": unvanish.__version__,
        **{name: version(name) for name in ("torch", "lightning")},
    }


def plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts in what JSON knows: it has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return json_number(value) if isinstance(value, float) else value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items()}


def _early_over_late(times: dict[str, dict[str, float | str]]) -> float:
    """Of |dL/dh_t| by layer and t; NaN where there is none."""
    for norms in times.values():
        early, late = float(norms[min(norms, key=int)]), float(norms[max(norms, key=int)])
        return early / late if late else math.nan
    return math.nan
