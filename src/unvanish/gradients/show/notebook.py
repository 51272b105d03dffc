"""Reports, diagnoses and verdicts as a page or a picture in a notebook."""

from typing import Any

from unvanish.gradients.judge import Diagnosis, Report, Verdict
from unvanish.gradients.show.pictures import delta_by_depth, picture_of
from unvanish.gradients.show.runs import run_of, run_of_diagnosis, run_of_verdict
from unvanish.page import framed


def html_of(shown: Any) -> str:
    """A frame with the page of a report, a diagnosis or a verdict."""
    make: Any = {Report: run_of, Diagnosis: run_of_diagnosis, Verdict: run_of_verdict}[type(shown)]
    return framed([make(shown, type(shown).__name__.lower())])


def png_of(shown: Any) -> bytes | None:
    """|delta| by depth; None where nothing was measured."""
    if isinstance(shown, Report):
        return picture_of(shown) if shown.has_deltas else None
    verdict: Verdict = shown.verdict if isinstance(shown, Diagnosis) else shown
    expected = shown.expected or None if isinstance(shown, Diagnosis) else None
    return delta_by_depth({"measured": verdict.line}, expected, verdict.name) if verdict.line else None
