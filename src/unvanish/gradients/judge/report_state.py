"""A report as text, exact to the last bit, so that a run that goes on ends with the report on all of it."""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from unvanish.gradients.attention import Astray
from unvanish.gradients.ends import Given
from unvanish.gradients.graph import Trunk
from unvanish.gradients.heads import Head
from unvanish.gradients.judge.report import Report
from unvanish.gradients.missing import Untrained
from unvanish.gradients.record import Record
from unvanish.gradients.sample import Sample
from unvanish.gradients.theory import Chain

_KINDS = {kind.__name__: kind for kind in (Astray, Chain, Given, Head, Record, Sample, Trunk, Untrained)}
#: Numbers, as they are: most of a report.
_PLAIN = {"values", "totals", "histograms"}


def dump(report: Report) -> str:
    """All that was taken in. A record that is in several places stays one."""
    records: dict[int, Record] = {}

    def numbers(some: Iterable[Record]) -> list[int]:
        for record in some:
            records.setdefault(id(record), record)
        order = {key: number for number, key in enumerate(records)}
        return [order[id(record)] for record in some]

    state = {
        "first": {part: numbers(some) for part, some in report._first.items()},
        "last": {part: numbers([*some]) for part, some in report._last.items()},
        "sample": numbers(report._sample),
        "cosines": numbers([*report._cosines]),
        "broken": numbers([report.broken] if report.broken else []),
        "steps": report.steps,
        "last_step": report.last_step,
        "skipped": report.skipped,
        "chain": _encoded(report.chain),
        "notes": report.notes,
        "losses": [*report._losses],
        "opening": report._opening,
        "targets": _encoded([*report._targets.items()]),
        "validation": report._validation,
        "since": report._since,
        "seen": [report._seen, report._stride],
    }
    # A record is what it was, and each checkpoint needs most of those of the one before.
    known = report._texts
    report._texts = {key: known.get(key) or (record, json.dumps(_encoded(record))) for key, record in records.items()}
    texts = ", ".join(text for _, text in report._texts.values())
    return f'{json.dumps(state)[:-1]}, "records": [{texts}]}}'


def load(report: Report, text: str) -> None:
    """Take in what another has; the report is empty."""
    state = json.loads(text)
    records: list[Record] = [_decoded(record) for record in state["records"]]

    def chosen(numbers: Iterable[int]) -> list[Record]:
        return [records[number] for number in numbers]

    report._first = {part: chosen(some) for part, some in state["first"].items()}
    report._last = {part: deque(chosen(some), maxlen=report.window) for part, some in state["last"].items()}
    report._sample = chosen(state["sample"])
    report._cosines.extend(chosen(state["cosines"]))
    report.broken = next(iter(chosen(state["broken"])), None)
    report.steps, report.last_step, report.skipped = state["steps"], state["last_step"], state["skipped"]
    report.chain, report.notes = _decoded(state["chain"]), state["notes"]
    report._losses.extend(state["losses"])
    report._opening, report._validation, report._since = state["opening"], state["validation"], state["since"]
    report._targets = dict(_decoded(state["targets"]))
    report._seen, report._stride = state["seen"]


def _encoded(value: Any) -> Any:
    """What JSON knows; whatever else, as a list that begins with its kind."""
    if is_dataclass(value):
        return [
            type(value).__name__,
            *(getattr(value, f.name) if f.name in _PLAIN else _encoded(getattr(value, f.name)) for f in fields(value)),
        ]
    if isinstance(value, tuple):
        return [type(value).__name__, *map(_encoded, value)]
    if isinstance(value, list):
        return ["list", *map(_encoded, value)]
    if isinstance(value, Mapping):
        return ["dict", *([_encoded(key), _encoded(inner)] for key, inner in value.items())]
    return value


def _decoded(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    name, *inner = value
    if name == "dict":
        return {_decoded(key): _decoded(one) for key, one in inner}
    kind = _KINDS.get(name)
    if kind is not None and is_dataclass(kind):
        plain = [f.name in _PLAIN for f in fields(kind)]
        return kind(*(one if is_plain else _decoded(one) for one, is_plain in zip(inner, plain, strict=True)))
    found = [_decoded(one) for one in inner]
    return found if name == "list" else tuple(found) if kind is None else kind(*found)
