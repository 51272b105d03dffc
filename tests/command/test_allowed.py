"""What a stranger's recipe does, by each command that takes one: nothing."""

import json
import shlex
import sys

import pytest

from unvanish.command.main import main

EVIL = "open('was_run', 'w').close()\nfrom unvanish import MLP, Images\nimport lightning as L\nclass Net(MLP): pass\n"
MODEL, DATA = "model: {class_path: unvanish.MLP, hidden_sizes: [3]}\n", "data: {class_path: unvanish.Images}\n"


def callback(path, **arguments):
    return f"trainer: {{callbacks: [{json.dumps({'class_path': path, 'init_args': arguments})}]}}\n"


LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "was_run"]}}
RECIPES = {
    "network": "\n# evil.Net\nmodel:\n  class_path: evil.Net\n" + DATA,
    "data": MODEL + "data: {class_path: evil.Data}\n",
    "callback": MODEL + DATA + callback("evil.Callback"),
    "logger": MODEL + DATA + "trainer: {logger: evil.Logger}\n",
    "optimizer": MODEL + DATA + "model.training.optimizer.name: evil.Adam\n",
    "wrap": DATA + "model: {class_path: unvanish.Wrap, module: evil.Net}\n",
    "python": DATA + "model: {class_path: unvanish.Wrap, module: os.system, arguments: {command: touch was_run}}\n",
    "hub": DATA + "model: {class_path: unvanish.Wrap, module: torch.hub.load, arguments: {source: local}}\n",
    "popen": MODEL + DATA + callback("subprocess.Popen", args=["touch", "was_run"]),
    "re-exported": MODEL + DATA + callback("lightning.fabric.utilities.cloud_io.io.FileIO", file="was_run", mode="w"),
    "function": MODEL + DATA + callback(LAMBDA, on_fit_start="os.getcwd"),
    "re-exported function": MODEL + DATA + callback(LAMBDA, on_fit_start="lightning.fabric.fabric.os.getcwd"),
    "any": MODEL + DATA + f"gradients: {{sinks: [{json.dumps(POPEN)}]}}\n",
    "arguments": DATA + f"model: {{class_path: unvanish.Wrap, module: timm.f, arguments: {json.dumps(POPEN)}}}",
    "file": MODEL + DATA + "trainer: {callbacks: callbacks.yaml}\n",
    "variant": "base: quickstart\nvariants: {a: {trainer.callbacks: {class_path: evil.Callback}}}\n",
    "kind": MODEL + DATA + callback("torch.nn.Linear", in_features=3, out_features=3),
}


@pytest.fixture
def stranger(workplace, monkeypatch):
    (workplace / "evil.py").write_text(EVIL)
    (workplace / "callbacks.yaml").write_text(json.dumps([{"class_path": "evil.Callback"}]))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    yield workplace
    sys.modules.pop("evil", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_names_what_it_may_not_is_answered_in_one_line_and_runs_nothing(stranger, capsys, name):
    (stranger / "theirs.yaml").write_text(RECIPES[name])
    before = sorted(stranger.rglob("*"))
    variant = " --variant=a" if name == "variant" else ""
    for words in (
        *("fit theirs.yaml", "diagnose theirs.yaml", "check theirs.yaml", "compare theirs.yaml"),
        *("recipes show theirs.yaml --resolved", "fit theirs.yaml --help"),
    ):
        if name in ("wrap", "python", "hub") and ("resolved" in words or "help" in words):
            assert main(shlex.split(words)) in (0, 2)  # a text that nothing is made of
            capsys.readouterr()
            continue
        assert main(shlex.split(words + variant * (not words.startswith("compare")))) == 2, words
        answer = capsys.readouterr().err
        assert answer.count("\n") == 1, words
        assert answer.startswith("unvanish: theirs.yaml"), words
    assert sorted(stranger.rglob("*")) == before
    assert "evil" not in sys.modules


@pytest.mark.slow
def test_the_refusal_has_the_line_the_key_and_the_option_and_the_option_is_all_it_takes(stranger, capsys):
    (stranger / "theirs.yaml").write_text(RECIPES["network"] + "hidden: 1")
    assert main(["fit", "theirs.yaml"]) == 2
    assert capsys.readouterr().err == (
        "unvanish: theirs.yaml, line 4: model.class_path 'evil.Net' runs the code of evil.py, and a recipe may do so "
        "only where you trust it: add --trust evil, or for always set UNVANISH_TRUST=evil\n"
    )
    (stranger / "theirs.yaml").write_text(RECIPES["network"] + "model.hidden_sizes: [3]\ndata.dataset: digits\n")
    short = ["--trust", "evil", "--trainer.max_epochs=1", "--no-gradients"]
    assert main(["fit", "theirs.yaml", *short]) == 0
    assert (stranger / "was_run").exists()
    shown = capsys.readouterr().out
    command = next(line for line in shown.splitlines() if line.startswith("next: ")).removeprefix("next: unvanish ")
    assert command == "test runs/theirs/1/config.yaml --trust evil"
    assert main(shlex.split(command)) == 0
    assert main(["test", "runs/theirs/1/config.yaml"]) == 2
    assert "runs/theirs/1/config.yaml, line 4: model.class_path 'evil.Net'" in capsys.readouterr().err


def test_what_is_typed_is_trusted_and_nothing_beside_it(stranger, capsys):
    (stranger / "net.py").write_text("from torch import nn\nclass Net(nn.Linear): pass\n")
    (stranger / "theirs.yaml").write_text(RECIPES["wrap"])
    typed = ["--model.module=net.Net", '--model.arguments={"in_features": 8, "out_features": 10}']
    assert main(["check", "theirs.yaml", "--trust=net", "--model.module=torch.nn.Net"]) == 2
    assert "theirs.yaml, line 2: model.module 'evil.Net'" in capsys.readouterr().err  # though it would be overridden
    recipe = RECIPES["wrap"].replace("evil.Net", "torch.nn.Linear")
    (stranger / "theirs.yaml").write_text(recipe)
    assert main(["fit", "theirs.yaml", "--data.dataset=digits", *typed]) == 2
    assert "net.Net does not take a batch of (2, 1, 8, 8)" not in capsys.readouterr().err.replace("returns", "")
    assert "net" in sys.modules
    sys.modules.pop("net")
    assert main(["fit", "theirs.yaml", "--data.path=evil.csv", "--trainer.callbacks=net.Net"]) == 2
    assert "evil" not in sys.modules  # the name of a file is no name of code


def test_a_recipe_of_show_is_a_recipe(stranger, capsys):
    assert main(["recipes", "show", "evil.py"]) == 2
    assert "was_run" not in capsys.readouterr().out
