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
    ("first", "says"), [(1e-13, "no learning rate brings back so little"), (1e-9, ""), (0.5, ""), (math.nan, "nan: ")]
)
def test_ten_steps_are_enough_where_nothing_can_change(first, says):
    why = hopeless(report(10, first))
    assert (says in why) if says else why == ""
