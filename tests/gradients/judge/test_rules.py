"""What holds of every rule: it has an ill network and a healthy one near it, and its texts are whole."""

from importlib import import_module
from pathlib import Path

import pytest
from trained import ABOUT, ILL, NEAR

from benchmarks.faults.__main__ import HERE
from benchmarks.faults.cases import load
from unvanish.gradients import Seen
from unvanish.gradients.judge.rules import NAMES, RULES
from unvanish.gradients.quantities.weight import WEIGHT_NORM

for path in sorted(Path(__file__).parent.glob("test_*.py")):
    if path != Path(__file__):
        import_module(path.stem)

IDS = [f"{index} {rule.name}" for index, rule in enumerate(RULES)]


def test_rules_are_many_and_each_is_there_once():
    assert len(RULES) == len(set(RULES)) > 30
    assert set(NAMES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_every_rule_has_an_ill_network_and_a_healthy_one_near_it(rule):
    assert ILL[rule], rule.name
    assert NEAR[rule], rule.near


def test_no_case_is_of_a_rule_that_is_gone():
    assert {*ILL, *NEAR} == {*RULES}


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_texts_of_a_rule_are_whole(rule):
    assert rule.name == rule.name.strip().lower() != ""
    assert rule.about
    assert set(rule.about) <= ABOUT
    assert rule.cause.endswith(".")
    assert ". " not in rule.cause
    assert rule.remedies
    for text in (*rule.remedies, rule.source, rule.near):
        assert text == text.strip() != ""
        assert not text.endswith(".")


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_rule_finds_nothing_where_nothing_was_seen(rule):
    assert [*rule.look(rule, Seen([]))] == []


def test_a_quantity_is_reckoned_once_however_many_trunks_and_rules_ask_for_it():
    seen = Seen([])
    assert seen.medians(WEIGHT_NORM) is seen.medians(WEIGHT_NORM)
    assert seen.at_first(WEIGHT_NORM) is seen.at_first(WEIGHT_NORM)


@pytest.mark.slow
def test_what_may_be_at_fault_is_what_the_benchmark_of_faults_counts():
    cases = load(HERE / "cases")
    assert {cause for case in cases for cause in case.get("causes") or ()} <= ABOUT
