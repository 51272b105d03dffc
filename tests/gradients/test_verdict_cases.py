import runpy
from pathlib import Path

import pytest

KNOWN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/verdicts.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN["CASES"])
def test_a_network_of_which_it_is_known_what_its_gradient_does_is_judged_right(name):
    case = KNOWN["CASES"][name]
    verdict = KNOWN["judge_case"](case)
    assert verdict.name == case.truth, verdict
    assert ("through time" in case.truth) == ("RNN" in name and case.truth != "healthy")
