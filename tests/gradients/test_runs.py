"""What the page gets of reports, diagnoses and verdicts."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from unvanish import diagnose
from unvanish.gradients import Record, Report
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.judge.verdict import judge
from unvanish.gradients.show.runs import run_of, run_of_diagnosis, run_of_verdict, summary_of
from unvanish.gradients.theory import Chain
from unvanish.page import html
from unvanish.page.matrix import unpacked

LAYERS = ["net.0.linear", "net.1.linear", "net.2.linear"]
NAMES = dict(zip(LAYERS, ["0", "1", "2"], strict=True))


def record(step, layers=LAYERS, factor=0.01, **more):
    """delta falls by a factor a layer towards the input; each layer has 4 outputs: its norm is twice its RMS."""
    deltas = {layer: factor ** (len(layers) - 1 - place) for place, layer in enumerate(layers)}
    values = {"delta_rms": deltas, "delta_norm": {k: 2 * v for k, v in deltas.items()}, "gradient_norm": deltas}
    return Record(step, 0.0, values | more.pop("values", {}), {"gradient_norm": 1.0}, **more)


def report_of(records):
    report = Report()
    report.add(records)
    return report


def test_a_run_has_each_quantity_by_layer_and_step():
    run = run_of(report_of([record(step) for step in (0, 1, 20)]), "mine")
    assert (run["name"], run["layers"], run["steps"], run["last_step"]) == ("mine", ["0", "1", "2"], 3, 20)
    delta = run["quantities"]["delta"]
    assert (delta["layers"], delta["steps"], delta["log"]) == (["0", "1", "2"], [0, 1, 20], True)
    for layer, log in (("0", -4.0), ("1", -2.0), ("2", 0.0)):
        assert unpacked(delta)[layer] == pytest.approx({0: log, 1: log, 20: log}, abs=1e-3)
    assert run["first_over_last"] == {"start": pytest.approx(1e-4), "end": pytest.approx(1e-4)}


def test_sums_of_the_residual_stream_leave_the_layers_names_as_they_are():
    sums = {f"{layer}+": 1.0 for layer in LAYERS[1:]}
    run = run_of(report_of([record(0, values={"stream_norm": sums})]), "with shortcuts")
    assert run["quantities"]["delta"]["layers"] == ["0", "1", "2"]
    assert run["quantities"]["stream_norm"]["layers"] == ["1.linear+", "2.linear+"]


def test_a_run_has_its_findings_under_the_names_of_its_charts():
    layers = [f"net.{k}.linear" for k in range(12)]
    run = run_of(report_of([record(step, layers) for step in range(12)]))
    assert run["verdict"] == run["findings"][0]["name"] == "vanishing"
    assert run["findings"][0]["layers"] == ["0"]
    assert run["findings"][0]["remedies"][0] == "ReLU with He initialization"
    assert run["findings"][0]["changes"][0] == {}


def test_a_remedy_has_the_line_of_the_recipe_that_would_change_it():
    report = report_of([record(step, [f"net.{k}.linear" for k in range(12)]) for step in range(12)])
    report.change_of = lambda words: {"model.residual": True} if words == "residual connections" else {}
    (finding, *_) = summary_of(report, NAMES)["findings"]
    assert dict(zip(finding["remedies"], finding["changes"], strict=True))["residual connections"] == {
        "model.residual": True
    }


def test_theory_speaks_of_the_same_rms_as_the_chart():
    report = report_of([record(step) for step in range(3)])
    report.chain = Chain(LAYERS, ["sigmoid", "sigmoid"], [1.0] * 3, [0.0] * 3, 1.0, None)
    expected = report.chain.expected(record(0).values["delta_norm"])
    found = run_of(report)["theory"]
    assert found["2"] == pytest.approx(0.0)
    assert found["0"] == pytest.approx(math.log10(expected["net.0.linear"] / 2))


def test_time_is_a_matrix_by_t_and_step():
    states = {"net.0.linear": {1: 1e-9, 50: 1.0}}
    run = run_of(report_of([record(step, through_time=states) for step in (0, 5)]))
    assert run["recurrent"] == ["0"]
    assert run["times"]["0"]["layers"] == ["1", "50"]
    assert unpacked(run["times"]["0"])["1"] == {0: -9.0, 5: -9.0}


def test_histograms_are_the_last_with_powers_of_two():
    counts = [0] * 512
    counts[0], counts[127], counts[256 + 127], counts[128] = 5, 2, 3, 7  # zeros, [1, 2) of both signs, [2, 4)
    run = run_of(report_of([record(0, histograms={"net.1.linear": counts})]))
    assert run["histograms"] == {"1": {"step": 0, "zeros": 5, "first": 0, "counts": [5, 7]}}


def test_a_hundred_layers_fit_in_a_megabyte_and_more_are_thinned():
    layers = [f"net.{k}.linear" for k in range(100)]
    names = ("update_ratio", "activation_mean", "activation_std", "saturated_share", "dead_share", "gradient_cosine")
    more = {name: {layer: 0.001 * k for k, layer in enumerate(layers)} for name in names}
    run = run_of(report_of([record(step, layers, 0.9, values=more) for step in range(2000)]))
    assert len(run["quantities"]) == 8
    assert len(run["quantities"]["delta"]["steps"]) > 100
    assert len(html([run]).encode()) < 1_000_000
    thin = run_of(report_of([record(step, layers, 0.9) for step in range(2000)]), room=500)
    assert len(thin["quantities"]["delta"]["steps"]) == 5


def test_what_json_has_no_word_for_is_said_in_words():
    run = run_of(report_of([record(step, factor=math.nan) for step in range(12)]))
    assert json.loads(json.dumps(run, allow_nan=False))["verdict"] == "nan"
    assert run["first_over_last"]["end"] == "nan"


@pytest.fixture
def diagnosis():
    torch.manual_seed(0)
    sizes = [8] * 11
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Sigmoid())]
    return diagnose(nn.Sequential(*layers[:-1]), (torch.randn(16, 8), torch.randn(16, 8)), nn.functional.mse_loss)


def test_a_diagnosis_is_a_run_of_one_step(diagnosis):
    run = run_of_diagnosis(diagnosis)
    rms = diagnosis.record.values["delta_rms"]
    assert run["quantities"]["delta"]["steps"] == [0]
    found = [next(iter(row.values())) for row in unpacked(run["quantities"]["delta"]).values()]
    assert found == pytest.approx([math.log10(value) for value in rms.values()], abs=1e-3)
    assert run["theory"].keys() == set(run["layers"])


def test_a_verdict_is_the_line_that_it_is_about(diagnosis):
    run = run_of_verdict(diagnosis.verdict)
    line = diagnosis.verdict.line
    found = [row[0] for row in unpacked(run["quantities"]["delta"]).values()]
    assert found == pytest.approx([math.log10(value) for value in line.values()], abs=1e-3)


def test_each_shows_itself_as_a_page_and_as_a_picture_and_is_short_in_words(diagnosis):
    report = report_of([record(step) for step in range(12)])
    for shown in (report, diagnosis, diagnosis.verdict):
        assert shown._repr_html_().startswith("<iframe srcdoc=")
        assert shown._repr_png_().startswith(b"\x89PNG")
        assert len(repr(shown)) < 300
        assert type(shown).__name__ in repr(shown)
    assert repr(report) == f"Report({report.end.name!r}, steps=12)"


def test_what_has_seen_nothing_shows_nothing_and_does_not_fail():
    for empty in (Report(), judge(Seen([]))):
        assert "iframe" in empty._repr_html_()
        assert empty._repr_png_() is None
