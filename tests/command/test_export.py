import hashlib
import json

import numpy as np
import pandas as pd
import pytest

import unvanish
from unvanish.command import export
from unvanish.command.main import main

QUICK = ["--trainer.max_epochs=1", "--no-gradients"]


@pytest.fixture
def run(workplace):
    """A regression of a table."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(90, 3)), columns=["a", "b", "y"]).assign(y=lambda t: 1000 + 50 * t["a"])
    table.to_csv("t.csv", index=False)
    words = ["--data.path=t.csv", "--data.target=y", "--model.hidden_sizes=[5]"]
    assert main(["fit", "mlp/csv", *words, *QUICK]) == 0
    return workplace / "runs/mlp/csv/1"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of exporters, about what they do inside
def test_an_exported_network_answers_as_the_live_one_and_its_card_says_what_it_is_worth(run, capsys):
    import onnxruntime
    import torch

    inputs = pd.read_csv("t.csv").head(7)
    model = unvanish.load(run)
    expected = model.predict(inputs)["prediction_y"].to_numpy()[:, None]
    x = model.known.encoding(inputs).x
    for kind in ("onnx", "pt2", "safetensors"):
        assert main(["export", str(run), "--format", kind]) == 0
        path = run / f"export/model.{kind}"
        assert f"{path}: as the network on " in capsys.readouterr().out
        card = (run / "export/MODEL_CARD.md").read_text()
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card
        assert "| rmse | " in card
        assert "class_path: unvanish.networks.MLP" in card
    session = onnxruntime.InferenceSession(run / "export/model.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x.numpy()})[0] == pytest.approx(expected, rel=1e-5)
    found = torch.export.load(run / "export/model.pt2").module()(x)
    assert found.detach().numpy() == pytest.approx(expected, rel=1e-5)
    assert json.loads((run / "export/encoding.json").read_text())["encoding"]["coder"]["columns"] == ["a", "b"]
    assert hashlib.sha256((run.parents[3] / "t.csv").read_bytes()).hexdigest() in card


def test_a_file_that_answers_otherwise_is_not_kept(run, capsys, monkeypatch):
    wrong = export._FORMATS["safetensors"]._replace(read=lambda network, path: lambda x: network(x) * 1.01)
    monkeypatch.setitem(export._FORMATS, "safetensors", wrong)
    assert main(["export", str(run), "--format=safetensors"]) == 1
    assert "the safetensors file differs from the network by 1.0e-02" in capsys.readouterr().err
    assert not (run / "export/model.safetensors").exists()
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert main(["export", str(run), "--format=onnx"]) == 2
    told = "--format onnx needs onnx, onnxscript, onnxruntime, not installed: pip install 'unvanish[export]'"
    assert told in capsys.readouterr().err
    assert main(["export", "nowhere", "--format=pt2"]) == 2
    assert "nowhere is no run: it has no config.yaml" in capsys.readouterr().err
