import math

import pytest

from unvanish.gradients.judge.pruning import LOST, STUCK, hopeless
from unvanish.gradients.judge.report import Report
from unvanish.gradients.judge.rules import NAMES
from unvanish.gradients.record import Record


def report(steps, first):
    found = Report()
    for step in range(steps):
        deltas = {"first": first, "middle": math.sqrt(first), "last": 1.0}
        found.add([Record(step, 0.0, {"delta_norm": deltas, "delta_rms": deltas})])
    return found


def test_the_findings_that_prune_are_the_judge_s():
    assert not (LOST.keys() | STUCK.keys()) - set(NAMES)
    assert not LOST.keys() & STUCK.keys()


@pytest.mark.parametrize(
    ("first", "progress", "says"),
    [
        (1e-7, 0.04, "neither a learning rate nor Adam can make up for that"),
        (1e-7, -3.0, "neither a learning rate nor Adam can make up for that"),
        (1e-7, 0.06, ""),  # the last layers learn without the first
        (1e-7, math.nan, ""),
        (1e-5, 0.0, ""),
        (0.5, 0.0, ""),
        (math.nan, 0.5, "nan: "),
    ],
)
def test_ten_steps_are_enough_where_nothing_can_change(monkeypatch, first, progress, says):
    monkeypatch.setattr(Report, "progress", lambda self, steps: progress)
    why = hopeless(report(10, first))
    assert (says in why) if says else why == ""
