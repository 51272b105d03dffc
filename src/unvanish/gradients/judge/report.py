"""Sums up a whole run: what the gradient did in its first steps, in its last, and in between."""

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, final

from unvanish.gradients.judge.finding import Finding
from unvanish.gradients.judge.notebook import Displayed
from unvanish.gradients.judge.rules import NAMES
from unvanish.gradients.judge.rules.depth import ratio_and_factor, worst
from unvanish.gradients.judge.seen import Seen, key_of, medians
from unvanish.gradients.judge.verdict import Verdict, judge
from unvanish.gradients.quantities import QUANTITIES
from unvanish.gradients.quantities.cosine import GRADIENT_COSINE
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.noise import NOISE_SIGNAL, NOISE_VARIANCE
from unvanish.gradients.record import Record
from unvanish.gradients.sample import Sample, pooled
from unvanish.gradients.theory import Chain

#: Losses of the last steps that are kept.
_LOSSES = 128


@final
class Report(Displayed):
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
        #: Which keys of a recipe a remedy changes, and to what, where there is a recipe.
        self.change_of: Callable[[str], Mapping[str, Any]] = _no_change
        #: Steps that were skipped, by a gradient scaler or on purpose; they are not among ``steps``.
        self.skipped = 0
        #: What has kept the report from being written.
        self.failure: OSError | None = None
        #: The first record that was not finite, if the run has not recovered since: later ones hide where it began.
        self.broken: Record | None = None
        #: By the part of the network that an optimizer has stepped.
        self._first: dict[str, list[Record]] = {}
        self._last: dict[str, deque[Record]] = {}
        # A cosine comes one step after its gradient, when little else is measured.
        self._cosines: deque[Record] = deque(maxlen=window)
        #: The losses of the last steps and of the first, and the targets of all.
        self._losses: deque[float] = deque(maxlen=_LOSSES)
        self._opening: list[float] = []
        self._targets: dict[Any, Sample] = {}
        self._validation: list[float] = []
        self._since: dict[str, int] = {}
        self._sample: list[Record] = []
        self._seen, self._stride = 0, 1
        #: The records as text, as far as a checkpoint has them; by ``id``, beside the record that has it.
        self._texts: dict[int, tuple[Record, str]] = {}
        #: What was judged since the last record came.
        self._judged: dict[str, Verdict] = {}

    def __repr__(self) -> str:
        return f"Report({self.end.name!r}, steps={self.steps})"

    def add(self, records: Iterable[Record]) -> None:
        """Take in the next records."""
        self._judged.clear()
        for record in records:
            self.steps += 1
            self.last_step = record.step
            self.broken = None if record.is_finite else self.broken or record
            if LOSS.name in record.totals:
                self._losses.append(record.totals[LOSS.name])
                self._opening += [record.totals[LOSS.name]] if len(self._opening) < self.window else []
            for head in record.heads:
                whole = pooled([self._targets.get(key_of(head)), head.target])
                self._targets |= {key_of(head): whole} if whole else {}
            if record.of(GRADIENT_COSINE):
                self._cosines.append(record)
            if not record.is_full:
                continue
            self._last.setdefault(record.part, deque(maxlen=self.window)).append(record)
            first = self._first.setdefault(record.part, [])
            if len(first) < self.window:
                first.append(record)
            if self._seen % self._stride == 0:
                self._sample.append(record)
            self._seen += 1
            if len(self._sample) > self.columns:
                self._sample, self._stride = self._sample[::2], 2 * self._stride

    def validated(self, loss: float) -> None:
        """Take in a loss, without penalties, on data that are not learnt from; of many the best and the last count."""
        self._judged.clear()
        self._validation = [*sorted(self._validation)[:1], loss]

    @property
    def has_deltas(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._first)

    @property
    def start(self) -> Verdict:
        """The verdict on the first steps."""
        if "start" not in self._judged:
            self._judged["start"] = self._judge(self._first, is_start=True)
        return self._judged["start"]

    @property
    def end(self) -> Verdict:
        """The verdict on the last steps, and on the one from which on the gradient was not finite, if it is not."""
        if "end" in self._judged:
            return self._judged["end"]
        broken = [self.broken] if self.broken else []
        parts = {part: [*(one for one in broken if one not in last), *last] for part, last in self._last.items()}
        parts = {part: sorted(last, key=lambda record: record.step) for part, last in parts.items()}
        self._judged["end"] = self._judge(parts or {"": broken})
        return self._judged["end"]

    def _judge(self, parts: Mapping[str, Sequence[Record]], *, is_start: bool = False) -> Verdict:
        """All findings on all parts, and the line of the part that is worst off."""
        verdicts = [
            judge(self._look(part, records, is_one=len(parts) < 2, is_start=is_start))
            for part, records in parts.items()
        ]
        if not verdicts:
            return judge(Seen([]))
        gravest = max(verdicts, key=lambda verdict: (bool(verdict.findings), verdict.name == "healthy"))
        findings = _together(dict(zip(parts, verdicts, strict=True)))
        findings.sort(key=lambda finding: NAMES.index(finding.name))
        return replace(gravest, findings=tuple(map(self._dated, findings)))

    def _look(self, part: str, records: Sequence[Record], *, is_one: bool, is_start: bool = False) -> Seen:
        return Seen(
            records,
            self._first.get(part, []),
            [*self._losses] if is_one and not is_start else [],
            self._opening,
            min(self.steps, self.window) if is_start else self.steps,
            "" if is_one else part,
            self._targets,
            [] if is_start else self._validation,
            sample=[] if is_start else [record for record in self._sample if record.part == part],
        )

    def progress(self, steps: int) -> float:
        """The share by which the loss of the last steps is below the best constant prediction's; NaN if unknown."""
        if len(self._last) != 1:
            return math.nan
        ((part, records),) = self._last.items()
        seen = self._look(part, [*records], is_one=True)
        return replace(seen, losses=seen.losses[-steps:]).progress

    def _dated(self, finding: Finding) -> Finding:
        return replace(finding, step=self._since.setdefault(finding.name, self.last_step))

    @property
    def first(self) -> list[Record]:
        """The first records at which everything was measured."""
        return [record for records in self._first.values() for record in records]

    @property
    def last(self) -> list[Record]:
        """The last ones."""
        return [record for records in self._last.values() for record in records]

    @property
    def sample(self) -> list[Record]:
        """Those between, evenly spaced, and the last."""
        return self._sample if self._sample[-1:] == self.last[-1:] else [*self._sample, self.last[-1]]

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
        signals, variances = (
            [totals[total.name] for totals in late if total.name in totals] for total in (NOISE_SIGNAL, NOISE_VARIANCE)
        )
        if len(signals) < 2 or fmean(signals) <= 2 * stdev(signals) / math.sqrt(len(signals)):
            return math.nan
        return fmean(variances) / fmean(signals)

    @property
    def expected(self) -> dict[str, float]:
        """|delta| by layer at the start, as theory expects it; empty where it covers no such network."""
        return self.chain.expected(medians(self.first, DELTA_NORM)) if self.chain and self._first else {}

    def as_dict(self) -> dict[str, Any]:
        """The verdict on the end, that on the start beside it, and the medians of every layer at both."""
        verdict, start = self.end, self.start
        layers: dict[str, dict[str, Any]] = {}
        for quantity in QUANTITIES:
            last = self._cosines if quantity is GRADIENT_COSINE else self.last
            for moment, records in (("start", self.first), ("end", last)):
                for name, value in medians(records, quantity).items():
                    layers.setdefault(name, {"name": name}).setdefault(quantity.name, {})[moment] = json_number(value)
        times = {moment: _times(records) for moment, records in (("start", self.first), ("end", self.last))}
        return {
            **as_dict(verdict),
            "steps": self.steps,
            "skipped_steps": self.skipped,
            "trend": json_number(self.trend),
            "noise_scale": json_number(self.noise_scale),
            "start": {key: as_dict(start)[key] for key in ("verdict", "first_over_last", "factor_per_layer")},
            "theory": theory_dict(self.chain, self.expected),
            "through_time": {moment: numbers for moment, numbers in times.items() if numbers},
            "not_measured": self.notes,
            "trunks": [trunk._asdict() for trunk in self.last[-1].trunks] if self._last else [],
            "layers": list(layers.values()),
        }

    def save(self, path: Path) -> None:
        """Write ``as_dict`` as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(path)


def _no_change(_: str) -> Mapping[str, Any]:
    return {}  # a lambda could not go to another process


def _together(verdicts: Mapping[str, Verdict]) -> list[Finding]:
    """The findings on several parts: what holds of all alike is said once, all else with its part."""
    told = Counter((f.name, f.evidence) for verdict in verdicts.values() for f in verdict.findings)
    found: dict[tuple[str, str], Finding] = {}
    for part, verdict in verdicts.items():
        for finding in verdict.findings:
            key = finding.name, finding.evidence
            where = finding.where or ("" if told[key] > 1 or len(verdicts) < 2 else part)
            found.setdefault(key, replace(finding, where=where))
    return [*found.values()]


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict in what JSON knows."""
    return {
        "verdict": verdict.name,
        "first_over_last": json_number(verdict.first_over_last),
        "factor_per_layer": json_number(verdict.factor_per_layer),
        "evidence": verdict.evidence,
        "cause": verdict.cause,
        "fixes": verdict.fixes,
        "findings": [asdict(finding) for finding in verdict.findings],
    }


def theory_dict(chain: Chain | None, expected: Mapping[str, float]) -> dict[str, Any] | None:
    """What theory expects in what JSON knows; None where it covers no such network."""
    if chain is None:
        return None
    deltas = {name: json_number(value) for name, value in expected.items()}
    return {"factor_per_layer": json_number(chain.factor_per_layer), DELTA_NORM.name: deltas}


def log10(value: float) -> float:
    """The logarithm of what may be 0, NaN or infinite."""
    return math.log10(value) if value > 0 else -math.inf if value == 0 else math.nan


def summary(record: Record, report: Report | None = None) -> dict[str, float]:
    """What sums a step up; empty where not everything was measured. The noise scale takes a report of many steps."""
    if not record.is_full:
        return {}
    ratio, factor = ratio_and_factor(worst(Seen([record])))
    found = {"first_over_last": ratio, "first_over_last_log10": log10(ratio), "decay_per_layer": factor}
    if report is not None and NOISE_SIGNAL.name in record.totals:
        found["noise_scale"] = report.noise_scale
    return {f"gradient/{name}": value for name, value in found.items()}


def json_number(value: float) -> float | str:
    """JSON has no NaN and no infinity, so they are said in words."""
    return value if math.isfinite(value) else str(value)


def verdict_on(record: Record) -> Verdict:
    """The verdict on one step, before which nothing was trained."""
    return judge(Seen([record], is_before=True))


def _times(records: Sequence[Record]) -> dict[str, dict[str, float | str]]:
    """|dL/dh_t| of the last record that has it; the lengths of sequences differ, so there is no median."""
    for record in reversed(records):
        if record.through_time:
            return {
                name: {str(t): json_number(norm) for t, norm in norms.items()}
                for name, norms in record.through_time.items()
            }
    return {}
