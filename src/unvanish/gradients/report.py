"""Sums up a whole run: what the gradient did in its first steps and in its last."""

import json
import math
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, final

from unvanish.gradients.recorder import Record
from unvanish.gradients.verdict import Verdict, judge


@final
class Report:
    """Keeps the first and the last records of a run; its size does not grow with the run.

    Args:
        window: Steps at the start, and at the end, of which the median is reported.
    """

    def __init__(self, window: int = 10) -> None:
        self.window = window
        self.steps = 0
        self._first: list[Record] = []
        self._last: deque[Record] = deque(maxlen=window)

    def add(self, records: Iterable[Record]) -> None:
        """Take in the next records."""
        for record in records:
            self.steps += 1
            self._last.append(record)
            if len(self._first) < self.window:
                self._first.append(record)

    @property
    def start(self) -> Verdict:
        """The verdict on the first steps."""
        return judge(_medians(self._first, "delta_norm"))

    @property
    def end(self) -> Verdict:
        """The verdict on the last steps."""
        return judge(_medians(self._last, "delta_norm"))

    def as_dict(self) -> dict[str, Any]:
        """The verdict on the end, that on the start beside it, and the medians of every layer at both."""
        verdict, start = self.end, self.start
        layers: dict[str, dict[str, Any]] = {}
        for quantity in ("gradient_norm", "delta_norm", "delta_rms", "update_ratio"):
            for moment, records in (("start", self._first), ("end", self._last)):
                for name, value in _medians(records, quantity).items():
                    layers.setdefault(name, {"name": name}).setdefault(quantity, {})[moment] = json_number(value)
        return {
            "verdict": verdict.status,
            "first_over_last": json_number(verdict.first_over_last),
            "factor_per_layer": json_number(verdict.factor_per_layer),
            "evidence": verdict.evidence,
            "cause": verdict.cause,
            "fixes": verdict.fixes,
            "steps": self.steps,
            "start": {
                "verdict": start.status,
                "first_over_last": json_number(start.first_over_last),
                "factor_per_layer": json_number(start.factor_per_layer),
            },
            "layers": list(layers.values()),
        }

    def save(self, path: Path) -> None:
        """Write ``as_dict`` as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _medians(records: Sequence[Record], quantity: str) -> dict[str, float]:
    """The median of a quantity by layer, over the records that have it; NaN where any of them is NaN."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.values.get(quantity, {}).items():
            values.setdefault(name, []).append(value)
    return {name: math.nan if any(map(math.isnan, seen)) else median(seen) for name, seen in values.items()}


def json_number(value: float) -> float | str:
    """JSON has no NaN and no infinity, so they are said in words."""
    return value if math.isfinite(value) else str(value)
