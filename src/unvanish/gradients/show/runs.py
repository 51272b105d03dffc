"""What the page shows of a run, in what JSON knows: see ``unvanish.page``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from statistics import median
from typing import Any

from unvanish.gradients.judge import Diagnosis, Report, Verdict
from unvanish.gradients.judge.report import json_number, log10
from unvanish.gradients.judge.seen import medians
from unvanish.gradients.layers import short_names
from unvanish.gradients.measure import OCTAVES
from unvanish.gradients.quantities import QUANTITIES
from unvanish.gradients.quantities.delta import DELTA_NORM, DELTA_RMS
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.stream import STREAM_NORM
from unvanish.gradients.record import Record
from unvanish.page import packed, shown
from unvanish.page.matrix import evenly
from unvanish.page.quantities import STATE

#: Numbers of a quantity, layers times steps, which with eight quantities are less than 600 kB.
ROOM = 25_600


def summary_of(report: Report, names: Mapping[str, str]) -> dict[str, Any]:
    """All but the numbers by step: layers, verdict, findings and what theory expects.

    Args:
        report: Of the run so far.
        names: What the layers are called in charts.
    """
    end, start = report.end, report.start
    return {
        **_of_verdict(end, names),
        "first_over_last": {
            "start": json_number(start.first_over_last),
            "end": json_number(end.first_over_last),
        },
        "start_verdict": start.name,
        "findings": [
            _named(asdict(finding), names) | {"changes": [report.change_of(words) for words in finding.remedies]}
            for finding in end.findings
        ],
        "steps": report.steps,
        "last_step": report.last_step,
        "layers": [*names.values()],
        "theory": _expected(report.expected, report.first, names),
        "recurrent": [names.get(layer, layer) for layer in _recurrent(report.last)],
        "not_measured": report.notes,
    }


def run_of(report: Report, name: str = "", room: int = ROOM) -> dict[str, Any]:
    """A run with its numbers: the sample that the report keeps, thinned where there are many layers.

    Args:
        report: Of the run.
        name: What it is called.
        room: Numbers of a quantity, at most.
    """
    records = report.sample if report.has_deltas else []
    names = _names(records)
    return {"name": name, **summary_of(report, names), **_numbers(records, names, room)}


def run_of_diagnosis(found: Diagnosis, name: str = "") -> dict[str, Any]:
    """A step before any training."""
    names = _names([found.record])
    verdict = found.verdict
    ratio = json_number(verdict.first_over_last)
    return {
        "name": name,
        **_of_verdict(verdict, names),
        "first_over_last": {"start": ratio, "end": ratio},
        "steps": 0,
        "layers": [*names.values()],
        "theory": _expected(found.expected, [found.record], names),
        "not_measured": found.notes,
        **_numbers([found.record], names, ROOM),
    }


def run_of_verdict(verdict: Verdict, name: str = "") -> dict[str, Any]:
    """What a verdict is about: the gradient along the trunk that is worst off, norms instead of RMS."""
    names = short_names(verdict.line)
    ratio = json_number(verdict.first_over_last)
    rows = {names[layer]: {0: value} for layer, value in verdict.line.items()}
    return {
        "name": name,
        **_of_verdict(verdict, names),
        "first_over_last": {"start": ratio, "end": ratio},
        "steps": 0,
        "layers": [*names.values()],
        "quantities": {"delta": packed("gradient δ = ∂L/∂z (norm)", rows, log=True)},
    }


def _of_verdict(verdict: Verdict, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "verdict": verdict.name,
        "evidence": verdict.evidence,
        "findings": [_named(asdict(finding), names) for finding in verdict.findings],
    }


def _named(finding: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return finding | {"layers": [names.get(layer, layer) for layer in finding["layers"]]}


def _names(records: Sequence[Record]) -> dict[str, str]:
    """What the layers are called in charts, in the order of the last record that has them.

    As in the logs, a sum of the residual stream does not make the names of the layers longer.
    """
    found = dict.fromkeys(chain.from_iterable(r.of(DELTA_RMS) for r in reversed(records)))
    found |= dict.fromkeys(chain.from_iterable(r.of(GRADIENT_NORM) for r in reversed(records)))
    sums = dict.fromkeys(chain.from_iterable(r.of(STREAM_NORM) for r in reversed(records)))
    return short_names(found | sums) | short_names(found)


def _numbers(records: Sequence[Record], names: Mapping[str, str], room: int) -> dict[str, Any]:
    """What ``numbers_of`` has, of as many steps as there is room for."""
    kept = set(evenly([r.step for r in records], min(256, max(2, room // max(len(names), 1)))))
    return numbers_of([record for record in records if record.step in kept], names)


def numbers_of(records: Sequence[Record], names: Mapping[str, str]) -> dict[str, Any]:
    """Matrices of the charted quantities by layer and step, of dL/dh_t by t and step, and the last histograms.

    Args:
        records: The steps.
        names: What the layers are called in charts.
    """
    quantities = {}
    for quantity in QUANTITIES:
        rows = {
            short: {r.step: r.values[quantity.name][layer] for r in records if layer in r.values.get(quantity.name, {})}
            for layer, short in names.items()
        }
        rows = {layer: row for layer, row in rows.items() if row}
        if quantity.charted and rows:
            key = "delta" if quantity is DELTA_RMS else quantity.name
            quantities[key] = packed(shown(key).title, rows, log=shown(key).log)
    times = {}
    for layer in dict.fromkeys(chain.from_iterable(record.through_time for record in records)):
        found = sorted({t for record in records for t in record.through_time.get(layer, ())})
        norms = {
            str(t): {r.step: r.through_time[layer][t] for r in records if t in r.through_time.get(layer, {})}
            for t in found
        }
        times[names.get(layer, layer)] = packed(STATE.title, norms, log=STATE.log)
    return {"quantities": quantities, "times": times, "histograms": _histograms(records, names)}


def _recurrent(records: Sequence[Record]) -> list[str]:
    return [*dict.fromkeys(chain.from_iterable(record.through_time for record in records))]


def _expected(
    expected: Mapping[str, float], records: Sequence[Record], names: Mapping[str, str]
) -> dict[str, float | str]:
    """log10 of the RMS of delta that theory expects: it speaks of norms, and a layer's size is their ratio."""
    rms, norms = medians(records, DELTA_RMS), medians(records, DELTA_NORM)
    ratios = {layer: rms[layer] / norms[layer] for layer in rms if norms.get(layer, 0.0) > 0}
    usual = median(ratios.values()) if ratios else 1.0
    return {
        names[layer]: json_number(log10(value * ratios.get(layer, usual)))
        for layer, value in expected.items()
        if layer in names
    }


def _histograms(records: Sequence[Record], names: Mapping[str, str]) -> dict[str, Any]:
    """The magnitudes of dL/dW by power of two, where the sample has them last."""
    half = OCTAVES // 2
    found: dict[str, Any] = {}
    for record in records:
        for layer, counts in record.histograms.items():
            folded = [a + b for a, b in zip(counts[1 : half - 1], counts[half + 1 : -1], strict=True)]
            there = [octave for octave, count in enumerate(folded) if count]
            if there and layer in names:
                first, last = there[0], there[-1]
                # Octave 0 of these holds 2^-126, the smallest float32 that is normal.
                edges = {"first": first - 126, "counts": folded[first : last + 1]}
                found[names[layer]] = {"step": record.step, "zeros": counts[0] + counts[half], **edges}
    return found
