"""Counts: what was seen, what was named, what was cried at. A case counts by the share of its seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from benchmarks.faults.cases import Facts, at, counts, is_held_out, pairs, recorded
from benchmarks.faults.judged import RANKED
from benchmarks.faults.train import Row

Totals = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A case, and the row of each seed with which it was run."""

    case: Facts
    rows: Sequence[Row]

    @property
    def detected(self) -> float:
        """The share of seeds of which anything was said, after the first steps or at the end."""
        return fmean(is_flagged(row) for row in self.rows)

    @property
    def named(self) -> float:
        """The share of seeds of which one of the first findings, early or at the end, is about one of the causes."""
        return fmean(is_named(self.case, row) for row in self.rows)

    @property
    def first_said(self) -> float | None:
        """The median step at which anything was said first, of the seeds of which something was."""
        steps = [min(row["said"].values()) for row in self.rows if is_flagged(row)]
        return median(steps) if steps else None


def is_flagged(row: Row) -> bool:
    return bool(row["start"] or row["end"])


def is_named(case: Facts, row: Row) -> bool:
    found = [*row["start"][:RANKED], *row["end"][:RANKED]]
    said = {word for finding in found for word in finding["about"]}
    return not said.isdisjoint(case.get("causes") or ())


def outcomes_of(cases: Iterable[Facts], rows: Iterable[Row]) -> tuple[list[Outcome], dict[str, str]]:
    """The outcomes of the cases that ran; why the others did not. What is the same as another has its rows."""
    by_id: dict[str, list[Row]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    ran, missing = [], {}
    for case in cases:
        found = by_id.get(case["id"]) or by_id.get(case.get("same_as") or "") or []
        done = [row for row in found if "not_run" not in row]
        if done:
            ran.append(Outcome(case, done))
        else:
            missing[case["id"]] = found[0]["not_run"] if found else "not asked for"
    return ran, missing


def totals(outcomes: Iterable[Outcome]) -> Totals:
    """The five counts."""
    faulty, healthy = _halves(outcomes)
    return {
        "faulty": len(faulty),
        "detected": _sum(one.detected for one in faulty),
        "cause_named": _sum(one.named for one in faulty),
        "healthy": len(healthy),
        "false_alarms": _sum(one.detected for one in healthy),
    }


def _halves(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    found = list(outcomes)
    return [one for one in found if one.case["faulty"]], [one for one in found if not one.case["faulty"]]


def _sum(shares: Iterable[float]) -> float:
    total = round(sum(shares), 2)
    return int(total) if total == int(total) else total


def summary(cases: Sequence[Facts], rows: Sequence[Row]) -> dict[str, Any]:
    """All that is counted, and every case beside it."""
    ran, missing = outcomes_of(cases, rows)
    counted = [one for one in ran if counts(one.case)]
    sets = {name: [one for one in counted if one.case["file"] == name] for name in {o.case["file"]: 0 for o in ran}}
    return {
        "seeds": 1 + max((row["seed"] for row in rows), default=0),
        "unit": "cases; one that was run with several seeds counts by the share of them",
        "totals": totals(counted),
        "all_labelled": totals(ran),
        "chosen_on": totals(one for one in counted if not is_held_out(one.case["family"])),
        "held_out": totals(one for one in counted if is_held_out(one.case["family"])),
        "at_the_start": {
            key: _sum(bool(row["start"]) / len(o.rows) for o in half for row in o.rows)
            for key, half in zip(("detected", "false_alarms"), _halves(counted), strict=True)
        },
        "at_the_end": {
            key: _sum(bool(row["end"]) / len(o.rows) for o in half for row in o.rows)
            for key, half in zip(("detected", "false_alarms"), _halves(counted), strict=True)
        },
        "pairs": _pairs(ran),
        "sets": {name: _set(found) for name, found in sets.items()},
        "peers": {name: peers(found) for name, found in sets.items()},
        "not_run": missing,
        "cases": [_case(one) for one in ran],
    }


def _set(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    steps = [one.first_said for one in outcomes if one.case["faulty"] and one.first_said is not None]
    return {
        **totals(outcomes),
        "steps_until_said": median(steps) if steps else None,
        "seconds": round(sum(row["seconds"] for one in outcomes for row in one.rows), 1),
    }


def _pairs(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Of faulty programs and their published corrections: where the faulty one is flagged and its correction not."""
    by_id = {one.case["id"]: one for one in outcomes}
    found: dict[str, float] = {}
    for faulty, corrected in pairs(one.case for one in by_id.values()):
        flags = zip(by_id[faulty].rows, by_id[corrected].rows, strict=False)
        found[faulty] = fmean(is_flagged(first) and not is_flagged(second) for first, second in flags)
    return {"pairs": len(found), "only_the_faulty": _sum(found.values()), "by_case": found}


def peers(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Any]]:
    """By tool: of how many of these very cases an answer is recorded, and how many it flags and diagnoses."""
    found: dict[str, dict[str, Any]] = {}
    for one in outcomes:
        for tool, answer in (at(one.case, "peers") or {}).items():
            if tool == "aggregate":
                for name, sentence in answer.items():
                    found.setdefault(name, _nothing())["aggregate"] = sentence
            elif isinstance(answer, Mapping) and answer.get("flagged") is not None:
                counted = found.setdefault(tool, _nothing())
                half = "faulty" if one.case["faulty"] else "healthy"
                counted[half] += 1
                counted[f"{half}_flagged"] += bool(answer["flagged"])
                if one.case["faulty"] and answer.get("diagnosed") is not None:
                    counted["diagnosed"] = (counted["diagnosed"] or 0) + bool(answer["diagnosed"])
    return found


def _nothing() -> dict[str, Any]:
    return {"faulty": 0, "faulty_flagged": 0, "diagnosed": None, "healthy": 0, "healthy_flagged": 0, "aggregate": None}


def _case(one: Outcome) -> dict[str, Any]:
    case = one.case
    return {
        "id": case["id"],
        "set": case["file"],
        "family": case["family"],
        "half": "held_out" if is_held_out(case["family"]) else "chosen_on",
        "faulty": case["faulty"],
        "confirmed": at(case, "confirmed", "value"),
        "counts": counts(case),
        "causes": case.get("causes") or [],
        "detected": one.detected,
        "cause_named": one.named,
        "metric": case.get("metric"),
        "recorded_metric": recorded(case),
        "peers": {
            tool: answer["flagged"]
            for tool, answer in (at(case, "peers") or {}).items()
            if isinstance(answer, Mapping) and "flagged" in answer
        },
        "runs": [{key: value for key, value in row.items() if key != "id"} for row in one.rows],
    }
