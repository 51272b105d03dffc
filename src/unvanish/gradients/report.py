"""Sums up a whole run: what the gradient did in its first steps, in its last, and in between."""

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, final

from unvanish.gradients import draw
from unvanish.gradients.chain import Chain
from unvanish.gradients.record import Record
from unvanish.gradients.verdict import Verdict, judge

QUANTITIES = (
    *("gradient_norm", "gradient_norm_clipped", "gradient_rms", "delta_norm", "delta_rms", "activation_mean"),
    *("activation_std", "saturated_share", "dead_share", "update_ratio", "gradient_cosine"),
)


@final
class Report:
    """Keeps the first and the last records of a run, and a sample of those between; its size has a bound.

    Args:
        window: Steps at which everything was measured, at the start and at the end, of which the median is reported.
        columns: Steps of the sample, at most.
    """

    def __init__(self, window: int = 10, columns: int = 256) -> None:
        self.window = window
        self.columns = columns
        self.steps = 0
        self.last_step = 0
        #: What theory expects, once a chain was found.
        self.chain: Chain | None = None
        #: What could not be measured.
        self.notes: list[str] = []
        #: The last record that was not finite, if the run has not recovered from it.
        self.broken: Record | None = None
        self._first: list[Record] = []
        self._last: deque[Record] = deque(maxlen=window)
        # A cosine comes one step after its gradient, when little else is measured.
        self._cosines: deque[Record] = deque(maxlen=window)
        self._sample: list[Record] = []
        self._seen, self._stride = 0, 1

    def add(self, records: Iterable[Record]) -> None:
        """Take in the next records."""
        for record in records:
            self.steps += 1
            self.last_step = record.step
            self.broken = None if record.is_finite else record
            if "gradient_cosine" in record.values:
                self._cosines.append(record)
            if "delta_norm" not in record.values:
                continue
            self._last.append(record)
            if len(self._first) < self.window:
                self._first.append(record)
            if self._seen % self._stride == 0:
                self._sample.append(record)
            self._seen += 1
            if len(self._sample) > self.columns:
                self._sample, self._stride = self._sample[::2], 2 * self._stride

    @property
    def has_deltas(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._first)

    @property
    def start(self) -> Verdict:
        """The verdict on the first steps."""
        return _verdict(self._first)

    @property
    def end(self) -> Verdict:
        """The verdict on the last steps, the very last among them if its gradient was not finite."""
        return _verdict([*self._last, self.broken] if self.broken else self._last)

    @property
    def trend(self) -> float:
        """By how many powers of ten first/last has grown from the first steps to the last; NaN where one is not."""
        start, end = self.start.first_over_last, self.end.first_over_last
        return math.log10(end / start) if start > 0 and end > 0 else math.nan

    @property
    def noise_scale(self) -> float:
        """The gradient noise scale in samples (McCandlish et al. 2018, eq. 2.9), over the second half of the run.

        It is a ratio of means over the steps of the sample; NaN where their |G|^2 is not two standard errors above 0.
        """
        late = [record.totals for record in self._sample if record.step >= self.last_step / 2]
        signals = [totals["noise_signal"] for totals in late if "noise_signal" in totals]
        variances = [totals["noise_variance"] for totals in late if "noise_signal" in totals]
        if len(signals) < 2 or fmean(signals) <= 2 * stdev(signals) / math.sqrt(len(signals)):
            return math.nan
        return fmean(variances) / fmean(signals)

    @property
    def expected(self) -> dict[str, float]:
        """|delta| by layer at the start, as theory expects it; empty where it covers no such network."""
        return self.chain.expected(_medians(self._first, "delta_norm")) if self.chain and self._first else {}

    def as_dict(self) -> dict[str, Any]:
        """The verdict on the end, that on the start beside it, and the medians of every layer at both."""
        verdict, start = self.end, self.start
        layers: dict[str, dict[str, Any]] = {}
        for quantity in QUANTITIES:
            last = self._cosines if quantity == "gradient_cosine" else self._last
            for moment, records in (("start", self._first), ("end", last)):
                for name, value in _medians(records, quantity).items():
                    layers.setdefault(name, {"name": name}).setdefault(quantity, {})[moment] = json_number(value)
        times = {moment: _times(records) for moment, records in (("start", self._first), ("end", self._last))}
        return {
            **as_dict(verdict),
            "steps": self.steps,
            "trend": json_number(self.trend),
            "noise_scale": json_number(self.noise_scale),
            "start": {key: as_dict(start)[key] for key in ("verdict", "first_over_last", "factor_per_layer")},
            "theory": theory_dict(self.chain, self.expected),
            "through_time": {moment: numbers for moment, numbers in times.items() if numbers},
            "not_measured": self.notes,
            "layers": list(layers.values()),
        }

    def save(self, path: Path) -> None:
        """Write ``as_dict`` as JSON, and beside it the picture of |delta| by depth, before and after training."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        if self.has_deltas:
            path.with_suffix(".png").write_bytes(self.picture())

    def picture(self) -> bytes:
        """|delta| by depth in the first steps and in the last, and as theory expects it, as PNG."""
        curves = {
            f"steps {_span(records)}": _medians(records, "delta_norm")
            for records in ([*self._first], [*self._last])
            if records
        }
        return draw.delta_by_depth(curves, self.expected or None, f"{self.end.status} after {self.steps} steps")

    def heat_map(self) -> bytes:
        """|delta| by depth and step, as PNG."""
        records = self._sample if self._sample[-1] is self._last[-1] else [*self._sample, self._last[-1]]
        return draw.heat_map([r.step for r in records], [r.values["delta_norm"] for r in records])


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict in what JSON knows."""
    return {
        "verdict": verdict.status,
        "first_over_last": json_number(verdict.first_over_last),
        "factor_per_layer": json_number(verdict.factor_per_layer),
        "evidence": verdict.evidence,
        "cause": verdict.cause,
        "fixes": verdict.fixes,
    }


def theory_dict(chain: Chain | None, expected: Mapping[str, float]) -> dict[str, Any] | None:
    """What theory expects in what JSON knows; None where it covers no such network."""
    if chain is None:
        return None
    deltas = {name: json_number(value) for name, value in expected.items()}
    return {"factor_per_layer": json_number(chain.factor_per_layer), "delta_norm": deltas}


def json_number(value: float) -> float | str:
    """JSON has no NaN and no infinity, so they are said in words."""
    return value if math.isfinite(value) else str(value)


def verdict_on(record: Record) -> Verdict:
    """The verdict on one step."""
    return _verdict([record])


def _verdict(records: Sequence[Record]) -> Verdict:
    through_time = {name: norms for record in list(records)[-1:] for name, norms in record.through_time.items()}
    norms = _medians(records, "gradient_norm").items()
    deltas = _medians(records, "delta_norm") | {name: norm for name, norm in norms if not math.isfinite(norm)}
    return judge(
        deltas,
        dead=_medians(records, "dead_share"),
        saturated=_medians(records, "saturated_share"),
        through_time=through_time,
    )


def _times(records: Sequence[Record]) -> dict[str, dict[str, float | str]]:
    """|dL/dh_t| of the last record that has it; the lengths of sequences differ, so there is no median."""
    for record in reversed(records):
        if record.through_time:
            return {
                name: {str(t): json_number(norm) for t, norm in norms.items()}
                for name, norms in record.through_time.items()
            }
    return {}


def _span(records: Sequence[Record]) -> str:
    first, last = records[0].step, records[-1].step
    return str(first) if first == last else f"{first} to {last}"


def _medians(records: Iterable[Record], quantity: str) -> dict[str, float]:
    """The median of a quantity by layer, over the records that have it; NaN where any of them is NaN."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.values.get(quantity, {}).items():
            values.setdefault(name, []).append(value)
    return {name: math.nan if any(map(math.isnan, seen)) else median(seen) for name, seen in values.items()}
