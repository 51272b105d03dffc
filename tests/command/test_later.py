import json
import subprocess
import sys

CODE = """
import importlib, json, pkgutil, sys
from unvanish.command.later import metrics_come_later
if "later" in sys.argv:
    metrics_come_later()
import torchmetrics
loaded = sorted({"scipy.signal", "transformers", "torchmetrics.text"} & {*sys.modules})
from torchmetrics.functional.classification.accuracy import accuracy
assert torchmetrics.functional.accuracy is accuracy  # a function in a module of its name
parents = ["torchmetrics", "torchmetrics.functional"]
names = [f"{p}.{m.name}" for p in parents for m in pkgutil.iter_modules(importlib.import_module(p).__path__) if m.ispkg]
found = {}
for module in map(importlib.import_module, [*parents, *names]):
    assert {*getattr(module, "__all__", [])} <= {*dir(module)}
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        found[f"{module.__name__}.{name}"] = "__path__" in vars(value) or value.__module__, value.__name__
missing = hasattr(torchmetrics, "Acuracy"), hasattr(torchmetrics.text, "__nothing__")
print(json.dumps([loaded, missing, found]))
"""


def run(*words):
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_name_of_torchmetrics_is_what_it_was_and_comes_when_it_is_asked_for():
    loaded, missing, found = run("later")
    assert loaded == []
    assert missing == [False, False]
    at_once, missing, expected = run()
    assert "torchmetrics.text" in at_once
    assert missing == [False, False]
    assert found == expected
    assert len(found) > 400


def test_a_model_is_diagnosed_by_torch_alone(tmp_path):
    text = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(3, 2)\n"
    (tmp_path / "mine.py").write_text(text)
    words = ["diagnose", "--model", "mine.Net", "--input-shape", "3", "--trust", "mine"]
    code = f"""
import sys
from unvanish.command.main import main
assert main({words}) == 0
print([m for m in ("lightning", "torchmetrics", "jsonargparse", "pandas", "sklearn") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
