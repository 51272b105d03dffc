import json
import math

import pytest

from unvanish.gradients import Record, Report, Seen, judge
from unvanish.gradients.judge.rules.depth import LEAVING, NEAR_ZERO, VANISHED
from unvanish.gradients.judge.rules.units import MOST, NEARLY_ALL


def judged(deltas, through_time=None, **values):
    """The verdict on a single step in which these numbers were seen."""
    return judge(Seen([Record(0, 0.0, {"delta_norm": deltas, **values}, through_time=through_time or {})]))


def geometric(factor, layers=21):
    """|delta| of layers of which each gets ``factor`` times the gradient of the one behind it."""
    return {f"layer{i}": 3.0 * factor ** (layers - 1 - i) for i in range(layers)}


@pytest.mark.parametrize(
    ("factor", "name"),
    [
        (0.14, "vanishing"),
        (0.7, "vanishing"),
        (0.71, "healthy"),
        (1.0, "healthy"),
        (1.41, "healthy"),
        (1.42, "exploding"),
    ],
)
def test_name_factor_and_ratio_of_a_geometric_series(factor, name):
    verdict = judged(geometric(factor))
    assert verdict.name == name
    assert verdict.factor_per_layer == pytest.approx(factor)
    assert verdict.first_over_last == pytest.approx(factor**20)
    assert "layer0" in verdict.evidence
    assert "layer20" in verdict.evidence


def test_a_change_of_width_alone_is_no_fault():
    assert judged({"wide": 1.0, "narrow": 1.0}).name == "healthy"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_named_with_the_deepest_layer(value):
    verdict = judged({"a": value, "b": value, "c": 1.0})
    assert verdict.name == "nan"
    assert verdict.evidence == f"the gradient is {value} in b"
    assert not math.isfinite(verdict.factor_per_layer)


def test_a_gradient_of_exactly_zero_is_dead_and_not_vanishing():
    verdict = judged({"a": 0.0, "b": 0.0, "c": 1.0})
    assert (verdict.name, verdict.first_over_last) == ("dead", 0.0)
    assert verdict.evidence == "|delta| is exactly 0 in 2 of 3 layers, the deepest of them b"


def test_a_gradient_that_has_shrunk_to_exactly_zero_is_vanishing():
    verdict = judged({"a": 0.0, "b": 0.0, "c": 1e-6, "d": 1e-3, "e": 1.0})
    assert (verdict.name, verdict.first_over_last) == ("vanishing", 0.0)
    assert "exactly 0 in 2 of 5 layers, the deepest of them b" in verdict.evidence
    assert "after a factor of 0.001 a layer behind it" in verdict.evidence


@pytest.mark.parametrize("deltas", [{}, {"a": 1.0}])
def test_one_layer_has_no_verdict(deltas):
    assert judged(deltas).name == judge(Seen([])).name == "unknown"


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_what_is_not_healthy_comes_with_a_cause_and_fixes(factor):
    verdict = judged(geometric(factor))
    assert bool(verdict.fixes) == bool(verdict.findings) == (verdict.name != "healthy")
    assert str(verdict).startswith(f"{verdict.name}: {verdict.evidence}; {verdict.cause}")
    assert all(fix in str(verdict) for fix in verdict.fixes)


def test_dead_units_are_named_before_the_factor_that_they_cause():
    deltas = geometric(0.1)
    verdict = judged(deltas, dead_share={"layer0": 0.95, "layer1": 0.2, "layer2": 0.1})
    assert [finding.name for finding in verdict.findings] == ["dead", "vanishing"]
    assert "42% of the units are never positive" in verdict.evidence
    assert "95% in layer0, 20% in layer1, 10% in layer2" in verdict.evidence
    assert judged(deltas, dead_share={"layer0": NEARLY_ALL - 0.01, "layer1": 0.1}).name == "vanishing"
    assert judged(geometric(1.0), dead_share={"layer0": MOST + 0.1, "layer1": MOST - 0.05}).name == "dead"
    assert judged(geometric(1.0), dead_share={"layer0": MOST + 0.1, "layer1": MOST - 0.15}).name == "healthy"


def test_saturated_activations_are_named_before_the_factor_that_they_cause():
    verdict = judged(geometric(0.1), saturated_share={"layer0": MOST + 0.1, "layer1": MOST})
    assert (verdict.name, verdict.factor_per_layer) == ("saturated", pytest.approx(0.1))
    assert f"{MOST + 0.05:.0%} of the activations are saturated" in verdict.evidence
    assert judged(geometric(1.0), saturated_share={"layer0": MOST + 0.1, "layer1": MOST - 0.2}).name == "healthy"


@pytest.mark.parametrize(
    ("factor", "name"), [(0.5, "vanishing through time"), (0.99, "healthy"), (2.0, "exploding through time")]
)
def test_a_factor_through_time_is_judged_where_depth_is_healthy(factor, name):
    through_time = {"lstm": {t: factor ** (51 - t) for t in (1, 11, 51)}}
    verdict = judged(geometric(1.0), through_time)
    assert verdict.name == name
    if verdict.findings:
        assert f"in lstm, h_1 gets {factor**50:.2g} times the gradient that h_51 gets" in verdict.evidence
        assert f"a factor of {factor:g} a time step" in verdict.evidence
        assert any("LSTM" in fix for fix in verdict.fixes)
    assert judged(geometric(0.1), through_time).name == "vanishing"


def test_one_leap_is_no_factor_a_time_step():
    """A layer that CoaT's serial and its parallel blocks share gets 16 times less in the first call of the latter."""
    norms = {t: 2.5 ** (8 - t) * (16 if t < 3 else 1) for t in range(1, 9)}
    assert norms[1] / norms[8] > 1 / VANISHED
    assert judged(geometric(1.0), {"shared": norms}).name == "healthy"


def test_a_nan_through_time_is_nan_and_not_exploding():
    verdict = judged(geometric(1.0), {"rnn": {1: math.nan, 9: 1.0}}, gradient_norm={"rnn": math.nan})
    assert [finding.name for finding in verdict.findings] == ["nan"]


def records(ratios):
    return [
        Record(step, float(step), {"delta_norm": {"a": ratio, "b": 1.0}, "gradient_norm": {"a": ratio, "b": 2.0}})
        for step, ratio in enumerate(ratios)
    ]


def test_report_judges_the_medians_of_the_first_and_of_the_last_steps(tmp_path):
    report = Report(window=3)
    report.add(records([1e-5, 1e-4, 1e-6, 50.0]))
    report.add(records([3.0, 0.2, 0.1]))
    assert report.steps == 7
    assert report.start.first_over_last == pytest.approx(1e-5)
    assert report.end.first_over_last == pytest.approx(0.2)
    report.save(tmp_path / "run" / "report.json")
    saved = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (saved["verdict"], saved["start"]["verdict"], saved["steps"]) == ("healthy", "vanishing", 7)
    assert saved["layers"][0]["gradient_norm"] == {"start": pytest.approx(1e-5), "end": pytest.approx(0.2)}


def test_report_says_nan_in_words_that_json_knows(tmp_path):
    report = Report()
    report.add(records([1.0, math.nan, 1.0]))
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert (saved["verdict"], saved["noise_scale"]) == ("nan", "nan")
    assert saved["layers"][0]["delta_norm"]["end"] == "nan"


def test_report_does_not_grow_with_the_run():
    report = Report(window=3, columns=8)
    for _ in range(100):
        report.add(records([1.0] * 10))
        assert len(report._sample) <= 8
    assert report.steps == 1000
    assert len(report.first) + len(report.last) == 6


def test_a_step_between_with_a_gradient_that_is_not_finite_decides_until_the_run_recovers():
    report = Report()
    report.add(records([1.0, 1.0]))
    report.add([Record(2, 2.0, {"gradient_norm": {"a": math.nan, "b": 1.0}})])
    assert report.end.name == "nan"
    assert report.end.evidence == "the gradient is nan in a"
    report.add([Record(3, 3.0, {"gradient_norm": {"a": 1.0, "b": 1.0}})])
    assert report.end.name == "healthy"


def test_trend_is_in_powers_of_ten():
    report = Report(window=1)
    report.add(records([1e-5, 1e-2]))
    assert report.trend == pytest.approx(3)


def test_the_noise_scale_is_a_ratio_of_means():
    def reported(*noise):
        report = Report()
        for step, (variance, signal) in enumerate(noise):
            totals = {"noise_variance": variance, "noise_signal": signal}
            report.add([Record(step, 0.0, {"delta_norm": {"a": 1.0, "b": 1.0}}, totals)])
        return report

    early = (100.0, 7.0)
    assert reported(early, (10.0, 2.0), (20.0, 3.0)).noise_scale == pytest.approx(30 / 5)
    assert reported(early, early, (10.0, 2.0), (20.0, 3.0)).noise_scale == pytest.approx(30 / 5)
    assert math.isnan(reported(early, (10.0, 1.0), (20.0, 4.0)).noise_scale)  # |G|^2 may as well be 0
    assert math.isnan(reported((10.0, 1.0)).noise_scale)
    assert math.isnan(Report().noise_scale)


@pytest.mark.parametrize(
    ("weights", "update", "name"),
    [
        ({"b": NEAR_ZERO / 5}, 10 * LEAVING, "healthy"),  # a low-rank adapter, some steps after its zero
        ({"b": NEAR_ZERO / 5}, LEAVING / 10, "vanishing"),  # which does not grow
        ({"b": 50 * NEAR_ZERO}, 10 * LEAVING, "vanishing"),
        ({}, 10 * LEAVING, "vanishing"),
        ({"c": NEAR_ZERO / 5}, 10 * LEAVING, "vanishing"),  # which passes what comes to it
        (dict.fromkeys("bcd", NEAR_ZERO / 5), 10 * LEAVING, "vanishing"),  # all begin too small
    ],
    ids=["an adapter", "at rest", "large", "unknown", "another", "all"],
)
def test_a_weight_that_leaves_zero_passes_little_on_yet_and_the_rest_of_the_way_is_judged(weights, update, name):
    deltas = {"a": 1e-4, "b": 0.5, "c": 0.7, "d": 1.0}
    verdict = judged(deltas, weight_norm=weights, update_ratio=dict.fromkeys("abcd", update))
    assert verdict.name == name
