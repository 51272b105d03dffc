"""The page on which it is summed up."""

import datetime
import platform
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.faults.judged import RANKED

_COLUMNS = ("faulty", "detected", "cause_named", "healthy", "false_alarms")


def page(found: Mapping[str, Any], command: str) -> str:
    """Counts by set, those of other tools beside them, and every miss by name."""
    lines = [
        "# Faulty and healthy training programs, and the judge",
        "",
        "Programs that others have published, and some of ours, as facts (`benchmarks/faults/cases`), trained as these",
        "say in a plain loop under the recorder. Faulty ones count where the fault is confirmed, as the run ends worse",
        "than its repaired twin; healthy ones where they learn; what is the same network twice counts once. Seeds:",
        f"{found['seeds']}; of several, a case counts by the share. Detected: anything is said after ten steps or at",
        f"the end. Cause named: one of the first {RANKED} findings at the end is about one of its causes. A family is",
        "held out, or not, by the hash of its name. MNIST is read from `--root`, the tables of two repositories from",
        "git directories under CASES_GIT, `<owner>+<name>/repo`; what is not there is not run.",
        "",
        _row("", "faulty", "detected", "cause named", "healthy", "false alarms", "steps until said", "seconds"),
        "|" + "---|" * 8,
        *(_counts(name, counted) for name, counted in found["sets"].items()),
        _counts("all", found["totals"]),
        _counts("families chosen on", found["chosen_on"]),
        _counts("families held out", found["held_out"]),
        _counts("all that are labelled", found["all_labelled"]),
        "",
        "After ten steps alone: {detected} detected, {false_alarms} false alarms.".format(**found["at_the_start"]),
        "At the end alone: {detected} detected, {false_alarms} false alarms.".format(**found["at_the_end"]),
        "Of {pairs} faulty programs with a correction, {only_the_faulty} are flagged while it is not.".format(
            **found["pairs"]
        ),
        "",
        "## What other tools answered on these very cases, as it is published",
        "",
        _row("", "tool", "faulty asked", "flagged", "diagnosed", "healthy asked", "flagged", "on all normal nets"),
        "|" + "---|" * 8,
    ]
    for name, tools in found["peers"].items():
        lines += [_row(name, tool, *(_cell(value) for value in counted.values())) for tool, counted in tools.items()]
    counted = [case for case in found["cases"] if case["counts"]]
    faulty = [case for case in counted if case["faulty"]]
    lines += _listed("Faulty, and not detected", [_missed(case) for case in faulty if case["detected"] < 1])
    lines += _listed(
        "Detected, but the cause not named",
        [_misnamed(case) for case in faulty if case["detected"] == 1 and case["cause_named"] < 1],
    )
    lines += _listed(
        "Healthy, and flagged", [_alarm(case) for case in counted if not case["faulty"] and case["detected"]]
    )
    left_out = [
        f"{case['id']}: {', '.join(case['runs'][0]['unknown'])}" for case in counted if case["runs"][0]["unknown"]
    ]
    lines += _listed("Facts that are not known here, and were left out", left_out)
    late = [
        case["id"]
        for case in counted
        if any(run["steps"] < run["planned"] and run["nan_step"] is None for run in case["runs"])
    ]
    lines += _listed("Ended before their last step, as their time was over", late)
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, reason in found["not_run"].items():
        reasons[reason].append(name)
    not_run = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    lines += _listed("Not run", not_run, len(found["not_run"]))
    lines += [
        "",
        f"{datetime.date.today()}, Python {platform.python_version()}, torch {torch.__version__}; `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def _listed(title: str, sentences: list[str], count: int | None = None) -> list[str]:
    head = f"## {title}: {len(sentences) if count is None else count}"
    return ["", head, "", *(f"- {sentence}" for sentence in sentences)] if sentences else []


def _missed(case: Mapping[str, Any]) -> str:
    learnt = sum(run["learns"] is True for run in case["runs"])
    note = f"; {learnt} of its {len(case['runs'])} runs learnt after all" if learnt else ""
    return f"{_head(case)}; {_metrics(case)}, and {_said(case)}{note}"


def _misnamed(case: Mapping[str, Any]) -> str:
    return f"{_head(case)}; {_said(case)}; {_metrics(case)}"


def _alarm(case: Mapping[str, Any]) -> str:
    told = {
        f"{finding['name']}: {finding['evidence']}": 0
        for run in case["runs"]
        for finding in [*run["start"][:1], *run["end"][:1]]
    }
    failed = sum(run["learns"] is False for run in case["runs"])
    note = f"; {failed} of its {len(case['runs'])} runs did not learn, so this may be no false alarm" if failed else ""
    return f"{case['id']}; {'; '.join(told)}; {_metrics(case)}{note}"


def _head(case: Mapping[str, Any]) -> str:
    return f"{case['id']} ({', '.join(case['causes'])})"


def _metrics(case: Mapping[str, Any]) -> str:
    values = ", ".join(f"{run['metric']:.3g}" for run in case["runs"])
    recorded = case["recorded_metric"]
    return f"{case['metric']} {values}" + (f" where {recorded:.3g} is to be had" if recorded is not None else "")


def _said(case: Mapping[str, Any]) -> str:
    names = {f["name"]: 0 for run in case["runs"] for f in run["end"][:RANKED]}
    early = {f["name"]: 0 for run in case["runs"] for f in run["start"][:RANKED]}
    if not names and early:
        return f"{', '.join(early)} was said at the start, and nothing at the end"
    return f"what was said is {', '.join(names)}" if names else "nothing was said"


def _counts(name: str, counted: Mapping[str, Any]) -> str:
    cells = [counted[column] for column in _COLUMNS]
    return _row(name, *map(_cell, [*cells, counted.get("steps_until_said"), counted.get("seconds")]))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
