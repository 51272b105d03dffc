import json
import re
from pathlib import Path

import pytest

from unvanish.command.main import main
from unvanish.gradients.judge.rules import RULES


def as_json(capsys, *words):
    capsys.readouterr()
    assert main(["diagnose", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_a_vanishing_recipe_is_judged_and_its_fixes_are_ranked_by_their_factor(workplace, capsys):
    found = as_json(capsys, "-c", "vanishing/mlp", "--variant", "plain")
    assert found["verdict"] == "vanishing"
    assert found["factor_per_layer"] == pytest.approx(0.14, rel=0.05)
    assert found["theory"]["factor_per_layer"] == pytest.approx(0.1443, rel=0.05)
    assert [layer["name"] for layer in found["layers"]][-1] == "output"
    assert len(found["layers"]) == 20
    tried = {fix["fix"]: fix for fix in found["fixes"]}
    assert {"ReLU with He initialization", "batch normalization", "residual connections"} <= tried.keys()
    healthy = [fix["factor_per_layer"] for fix in found["fixes"] if fix["verdict"] == "healthy"]
    assert len(healthy) >= 4
    assert healthy == sorted(healthy, key=lambda factor: max(factor, 1 / factor))
    assert tried["batch normalization"]["changes"] == {"model.normalization": "batch"}
    assert found["fixes"][-1]["verdict"] == "vanishing"
    assert not list(workplace.iterdir())


@pytest.mark.slow
def test_a_fix_is_worth_what_the_recipe_with_its_changes_is(workplace, capsys):
    fixes = as_json(capsys, "-c", "mlp/deep_sigmoid")["fixes"]
    for fix in fixes:
        changed = as_json(
            capsys,
            "-c",
            "mlp/deep_sigmoid",
            *(f"--{key}={str(value).lower()}" for key, value in fix["changes"].items()),
        )
        assert changed["verdict"] == fix["verdict"]
        assert changed["factor_per_layer"] == pytest.approx(fix["factor_per_layer"], rel=1e-6)
        assert all(other["changes"] != fix["changes"] for other in changed["fixes"])


@pytest.mark.slow
def test_fail_on_decides_the_exit_code(workplace, capsys):
    plain = ["diagnose", "-c", "vanishing/mlp", "--variant", "plain"]
    assert main(plain) == 0
    shown = capsys.readouterr().out
    assert "vanishing: hidden.0.linear gets" in shown
    assert "fix, on the same batch" in shown
    assert main([*plain, "--fail-on", "exploding,vanishing"]) == 1
    assert main([*plain, "--fail-on", "exploding"]) == 0
    assert main(["diagnose", "-c", "quickstart", "--fail-on", "vanishing,exploding,dead,saturated,nan"]) == 0


@pytest.mark.slow
def test_any_model_is_diagnosed_by_its_path_and_an_input_shape(workplace, capsys, monkeypatch):
    found = as_json(capsys, "--model", "torchvision.models.resnet18", "--input-shape", "3,32,32")
    assert found["verdict"] == "healthy"
    assert found["layers"][0]["name"] == "conv1"
    assert found["theory"] is None
    (workplace / "five_to_three.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(5, 3))\n"
    )
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert as_json(capsys, "--model", "five_to_three.net", "--input-shape", "5")["verdict"] == "unknown"


@pytest.mark.slow
def test_each_remedy_is_trained_and_is_worth_what_the_recipe_with_its_changes_is(workplace, capsys):
    small = ["-c", "mlp/deep_sigmoid", "--model.num_layers=6", "--steps", "8"]
    found = as_json(capsys, *small)
    fixes = found["fixes"]
    assert [fix["loss"] for fix in fixes] == sorted(fix["loss"] for fix in fixes)
    tried = {fix["fix"]: fix for fix in fixes}
    assert {"ReLU with He initialization", "a tenth of the learning rate", "gradient clipping"} <= tried.keys()
    assert found["trials"]["steps"] == 8
    assert found["trials"]["best"] == fixes[0]["fix"]
    for name in ("ReLU with He initialization", "a learning rate that warms up", "gradient clipping"):
        fix = tried[name]
        changes = [f"--{key}={str(value).lower()}" for key, value in fix["changes"].items()]
        unchanged = as_json(capsys, *small, *changes)["trials"]["no_change"]
        assert unchanged["loss"] == pytest.approx(fix["loss"], rel=1e-5), name
        assert unchanged["verdict"] == fix["verdict"], name


@pytest.mark.slow
def test_what_a_recipe_has_already_is_not_tried(workplace, capsys):
    words = ["-c", "recurrent/adding_rnn", "--data.samples=500", "--data.length=20", "--data.validation_samples=100"]
    optimizer = ["--model.training.optimizer.name=sgd", "--model.training.optimizer.learning_rate=0.1"]
    found = as_json(capsys, *words, *optimizer, "--model.training.schedule.warmup_steps=2", "--steps", "2")
    tried = {fix["fix"]: fix["changes"] for fix in found["fixes"]}
    assert tried["GRU cells"] == {"model.cell": "gru", "model.activation": "tanh"}
    assert tried["no clipping"] == {"trainer.gradient_clip_val": None}
    assert tried["Adam instead of SGD"]["model.training.optimizer.name"] == "adam"
    assert not {"gradient clipping", "a learning rate that warms up", "a forget-gate bias of 1"} & tried.keys()


@pytest.mark.slow
def test_the_table_of_trials_is_printed_and_they_decide_the_exit_code_too(workplace, capsys):
    words = ["diagnose", "-c", "quickstart", "--model.training.optimizer.learning_rate=1e-7", "--steps", "12"]
    assert main([*words, "--fail-on", "steps too small"]) == 1
    shown = capsys.readouterr().out
    assert re.search("^remedy, 12 steps each +what it changes +loss reached +verdict$", shown, re.MULTILINE)
    assert re.search("^a hundred times the learning rate +model.training.optimizer.learning_rate: 1e-05", shown, re.M)
    assert re.search(r"^no change +2\.", shown, re.MULTILINE)


def test_the_page_of_findings_is_what_the_rules_say(workplace, capsys):
    assert main(["diagnose", "--list-findings"]) == 0
    page = capsys.readouterr().out
    assert (Path(__file__).parents[2] / "docs" / "FINDINGS.md").read_text(encoding="utf-8") == page
    assert [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()[-len(RULES) :]] == [
        rule.name for rule in RULES
    ]
