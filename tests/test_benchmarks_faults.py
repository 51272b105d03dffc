import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from benchmarks.faults import __main__ as command
from benchmarks.faults.cases import CAUSES, counts, is_held_out, learns, load, pairs
from benchmarks.faults.data import scaled
from benchmarks.faults.initialization import initialize
from benchmarks.faults.layers import same_pads
from benchmarks.faults.loss import loss_of
from benchmarks.faults.model import model_of
from benchmarks.faults.optimizer import Schedule, optimizer_of
from benchmarks.faults.program import program_of
from benchmarks.faults.totals import summary
from benchmarks.faults.train import run

CASES = Path(command.__file__).parent / "cases"
XOR = {"kind": "inline", "x": [[0, 0], [0, 1], [1, 0], [1, 1]], "y": [[0], [1], [1], [0]]}
DENSE = [{"type": "dense", "units": 7, "activation": "tanh"}, {"type": "dense", "units": 1, "activation": "sigmoid"}]
WELL = {
    "id": "well",
    "family": "xor",
    "faulty": False,
    "data": XOR,
    "input_shape": [2],
    "layers": DENSE,
    "loss": "binary_crossentropy",
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "batch_size": 2,
    "epochs": 400,
    "metric": "accuracy",
    "confirmed": {"value": "learns", "metric_value": 1.0},
}
ILL = WELL | {
    "epochs": 60,
    "id": "ill",
    "faulty": True,
    "causes": ["activation", "depth"],
    "layers": [{"type": "dense", "units": 7, "activation": "sigmoid", "repeat": 13}, DENSE[1]],
    "fix": {"case": "well"},
    "confirmed": {"value": "yes", "faulty_metric": 0.5, "fixed_metric": 1.0},
    "peers": {"sight": {"flagged": True, "diagnosed": False}, "hearing": None},
}


@pytest.mark.slow
def test_cases_run_from_facts_to_a_page_and_what_cannot_run_is_a_row(tmp_path, capsys):
    odd = WELL | {"id": "odd", "optimizer": WELL["optimizer"] | {"clipnorm": 1.0}, "epochs": 1}
    broken = [
        WELL | {"id": "layer", "layers": [{"type": "capsule"}]},
        WELL | {"id": "shape", "input_shape": [3]},
        WELL | {"id": "data", "data": {"kind": "not_here"}},
        WELL | {"id": "images", "data": {"kind": "mnist"}},
        {"id": "empty"},
    ]
    twin = ILL | {"id": "twin", "same_as": "ill"}
    (tmp_path / "some.yaml").write_text(yaml.safe_dump([WELL, ILL, twin, odd | {"confirmed": None}, *broken]))
    words = ["--cases", tmp_path, "--root", tmp_path, "--out", tmp_path / "rows.jsonl", "--json", tmp_path / "all.json"]
    assert command.main([*map(str, words), "--jobs", "1", "--seeds", "2"]) == 0
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["totals"] == {"faulty": 1, "detected": 1, "cause_named": 1, "healthy": 1, "false_alarms": 0}
    assert found["all_labelled"]["faulty"] == 2
    assert found["chosen_on"]["faulty"] + found["held_out"]["faulty"] == 1
    assert found["pairs"]["only_the_faulty"] == 2
    assert found["peers"]["some"]["sight"]["faulty_flagged"] == 1
    assert "hearing" not in found["peers"]["some"]
    assert set(found["not_run"]) == {"layer", "shape", "data", "images", "empty"}
    assert "capsule" in found["not_run"]["layer"]
    well, ill, _, loose = found["cases"]
    assert (loose["counts"], loose["runs"][0]["unknown"], loose["runs"][0]["learns"]) == (False, ["clipnorm"], None)
    assert [run["learns"] for run in well["runs"]] == [True, True]
    assert [run["learns"] for run in ill["runs"]] == [False, False]
    assert [run["steps"] for run in well["runs"]] == [800, 800]
    page = capsys.readouterr().out
    assert "| some | 1 | 1 | 1 | 1 | 0 |" in page
    assert "## Not run: 5" in page
    kept = (tmp_path / "rows.jsonl").read_text()
    command.main([*map(str, words), "--jobs", "1", "--seeds", "2"])
    assert (tmp_path / "rows.jsonl").read_text() == kept


@pytest.mark.parametrize("name", ["glorot_uniform", "he_uniform", "lecun_uniform"])
def test_uniform_weights_fill_keras_bounds(name):
    weight = torch.empty(53, 101)
    initialize(weight, name)
    bound = math.sqrt({"glorot_uniform": 6 / (53 + 101), "he_uniform": 6 / 101, "lecun_uniform": 3 / 101}[name])
    assert 0.999 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("name", ["glorot_normal", "he_normal", "lecun_normal"])
def test_normal_weights_are_cut_at_two_and_have_keras_variance(name):
    weight = torch.empty(53, 31, 3, 3)
    initialize(weight, name)
    fan_in, fan_out = 31 * 9, 53 * 9
    std = math.sqrt(
        {"glorot_normal": 2 / (fan_in + fan_out), "he_normal": 2 / fan_in, "lecun_normal": 1 / fan_in}[name]
    )
    assert weight.std() == pytest.approx(std, rel=0.03)
    assert weight.abs().max() <= 2 * std / 0.87962566103423978 + 1e-6


def test_losses_have_keras_values():
    p, y = torch.tensor([[0.2], [1.0]]), torch.tensor([[1.0], [0.0]])
    assert loss_of("binary_crossentropy", None)(p, y).item() == pytest.approx(
        (-math.log(0.2) - math.log(1.1921e-7)) / 2
    )
    p, y = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert loss_of("categorical_crossentropy", None)(p, y).item() == pytest.approx((math.log(4) + math.log(2)) / 2)
    logits = loss_of("softmax_cross_entropy_with_logits", None)(p, y).item()
    assert logits == pytest.approx(nn.functional.cross_entropy(p, torch.tensor([0, 1])).item())
    by_hand = loss_of("hand_written_cross_entropy", {"softmax_axis": -1, "inner": "mean", "outer": "sum"})(p, y).item()
    assert by_hand == pytest.approx(logits)  # halved over two classes, summed over two samples
    p, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [7.0]])
    assert loss_of("mse", None)(p, y).item() == 8.5
    assert loss_of("mse", {"outer": "sum"})(p, y).item() == 17
    assert loss_of("mse", {"broadcast": True})(p, y).item() == (1 + 36 + 1 + 16) / 4
    assert loss_of("mae", None)(p, y).item() == 2.5
    assert loss_of("smooth_l1", None)(p, y).item() == nn.functional.smooth_l1_loss(p, y).item()


def test_adam_steps_as_keras_does():
    weight = nn.Parameter(torch.zeros(1))
    spec = {"name": "adam", "learning_rate": 0.1, "decay": 0.5}
    optimizer = optimizer_of(spec, [weight])
    schedule = Schedule(spec, optimizer)
    m = v = w = 0.0
    for step, gradient in enumerate((3e-6, -1e-6, 2e-7)):
        schedule.before(step)
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        m, v, t = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2, step + 1
        rate = 0.1 / (1 + 0.5 * step) * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w -= rate * m / (math.sqrt(v) + 1e-7)
        assert weight.item() == pytest.approx(w, rel=1e-4)


def test_every_kind_of_layer_fits_the_next():
    images = [
        {"type": "conv2d", "filters": 3, "kernel": 4, "strides": 2, "padding": "same", "activation": "relu"},
        {"type": "batchnorm"},
        {"type": "maxpool2d", "size": 2, "padding": "same"},
        {"type": "conv2d", "filters": 5, "kernel": [1, 2], "activation": "softmax", "l2": 0.1},
        {"type": "avgpool2d", "size": 2, "strides": 1, "padding": "same"},
        {"type": "dense", "units": 2},  # looks at the channels, as Keras has it
        {"type": "global_avg_pool2d"},
    ]
    model, _ = model_of([layer for layer in images if layer["type"] != "dense"], [1, 11, 13])
    assert model(torch.randn(7, 1, 11, 13)).shape == (7, 5)
    model, penalty = model_of(images, [1, 11, 13])
    x = torch.randn(7, 1, 11, 13)
    assert model(x).shape == (7, 2)
    assert model[:7](x).sum(1).allclose(torch.ones(()))
    assert penalty().item() == pytest.approx(0.1 * model[5].weight.square().sum().item())
    words = [
        {"type": "embedding", "vocabulary": 17, "units": 3},
        {"type": "conv1d", "filters": 5, "kernel": 3, "activation": "relu"},
        {"type": "maxpool1d", "size": 2},
        {"type": "batchnorm"},
        {"type": "gru", "units": 7, "return_sequences": True},
        {"type": "batchnorm"},
        {"type": "lstm", "units": 11, "return_sequences": True},
        {"type": "dropout", "rate": 0.5},
        {"type": "simple_rnn", "units": 2, "recurrent_activation": "relu"},
        {"type": "activation", "name": "softmax"},
    ]
    assert model_of(words, [13])[0](torch.randint(17, (19, 13))).sum(-1).allclose(torch.ones(19))


def test_padding_puts_the_odd_one_at_the_end():
    assert same_pads((5, 8), (3, 2), (2, 1)) == [0, 1, 1, 1]


def test_near_is_five_points_or_a_quarter():
    faulty = {"faulty": True, "metric": "accuracy", "confirmed": {"fixed_metric": 0.9}}
    assert (learns(faulty, 0.86), learns(faulty, 0.85), learns(faulty, math.nan)) == (True, False, False)
    healthy = {"faulty": False, "metric": "nmse", "confirmed": {"metric_value": 0.2}}
    assert (learns(healthy, 0.25), learns(healthy, 0.27), learns({"metric": "nmse"}, 0.0)) == (True, False, None)


def test_scalings_are_those_of_their_names():
    x = torch.tensor([[0.0, 2.0], [4.0, 2.0], [8.0, 2.0]]).numpy()
    assert scaled(x, "min_max").tolist() == [[0, 0.25], [0.5, 0.25], [1, 0.25]]
    assert scaled(x, "min_max_features")[:, 0].tolist() == [0, 0.5, 1]
    assert scaled(x, "double_min_max").max() == 1 / 8
    assert scaled(x, "standard_features").std(0).tolist() == pytest.approx([1, 0])


@pytest.mark.slow
def test_the_cases_of_ours_are_whole():
    cases = load(CASES)
    by_id = {case["id"]: case for case in cases}
    causes = {cause for case in cases if case["faulty"] for cause in case["causes"]}
    assert causes == set(CAUSES)
    assert all(case["same_as"] in by_id for case in cases if case.get("same_as"))
    assert all(case["causes"] for case in cases if case["faulty"])
    assert not any(case["causes"] for case in cases if not case["faulty"])
    assert sum(counts(case) for case in cases if case["faulty"]) >= 100
    assert sum(counts(case) for case in cases if not case["faulty"]) >= 110
    assert len(pairs(cases)) >= 60
    families = {case["family"] for case in cases}
    assert 0.3 < sum(map(is_held_out, families)) / len(families) < 0.7


def test_seeds_count_by_their_share():
    case = ILL | {"file": "some"}
    said = {"name": "vanishing", "about": ["depth"], "evidence": ""}
    quiet = {"id": "ill", "seconds": 1.0, "start": [], "end": [], "said": {}, "learns": True, "metric": 1.0}
    rows = [quiet | {"seed": 0}, quiet | {"seed": 1, "end": [said], "said": {"vanishing": 30}}]
    totals = summary([case], rows)["totals"]
    assert (totals["faulty"], totals["detected"], totals["cause_named"]) == (1, 0.5, 0.5)


def test_a_program_is_the_same_for_the_same_seed(tmp_path):
    first, second, other = (program_of(WELL, seed, tmp_path) for seed in (3, 3, 4))
    losses = [next(program.turns).loss.item() for program in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]


def test_a_program_of_ours_steps_two_optimizers_in_turn(tmp_path):
    case = {
        "id": "two",
        "data": {"kind": "python", "factory": "generative.adversaries", "steps": 6},
        "metric": "accuracy",
    }
    row = run(case, 0, tmp_path, 60.0)
    assert (row["steps"], row["planned"], row["ended"], row["end"]) == (12, 12, "as planned", [])
