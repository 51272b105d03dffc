import json

import pytest

from unvanish.command.main import main


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


def test_fail_on_decides_the_exit_code(workplace, capsys):
    plain = ["diagnose", "-c", "vanishing/mlp", "--variant", "plain"]
    assert main(plain) == 0
    shown = capsys.readouterr().out
    assert "vanishing: hidden.0.linear gets" in shown
    assert "fix, on the same batch" in shown
    assert main([*plain, "--fail-on", "exploding,vanishing"]) == 1
    assert main([*plain, "--fail-on", "exploding"]) == 0
    assert main(["diagnose", "-c", "quickstart", "--fail-on", "vanishing,exploding,dead,saturated,nan"]) == 0


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
