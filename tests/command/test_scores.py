"""What is told of a model, from the file to the run's folder."""

import hashlib
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unvanish.command.confusion import confusion_picture
from unvanish.command.data_files import fingerprint
from unvanish.command.main import main
from unvanish.command.scores import class_rows, metric_rows
from unvanish.training import Scores

OPTIONS = ["mlp/csv", "--data.path=t.csv", "--data.target=y", "--model.hidden_sizes=[5]"]


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture
def rare(workplace):
    """A table whose answer is yes in one row of fifty, and has nothing to do with the rest."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(500, 2)), columns=["a", "b"])
    table.assign(y=["yes" if row % 50 == 0 else "no" for row in range(500)]).to_csv("t.csv", index=False)
    return workplace


@pytest.mark.slow
def test_a_model_that_always_says_no_is_told_so_and_its_scores_are_kept_beside_the_run(rare, capsys):
    assert main(["fit", *OPTIONS, "--trainer.max_epochs=2"]) == 0
    assert re.search(r"no better than always answering 'no': accuracy 0\.\d+ to 0\.9867", capsys.readouterr().out)
    folder = rare / "runs/mlp/csv/1"
    kept = json.loads((folder / "scores.json").read_text())["val"]
    assert [*map(sum, kept["confusion"])] == [74, 1]
    assert kept["classes"]["yes"]["recall"] == kept["confusion"][1][1]
    assert kept["metrics"]["accuracy"] <= kept["baselines"]["constant"]["accuracy"]
    assert (folder / "val_confusion_matrix.png").is_file()
    found = EventAccumulator(str(folder)).Reload()
    assert found.Tags()["images"].count("val/confusion_matrix") == 1
    assert found.Scalars("val/accuracy_constant")[0].value == pytest.approx(74 / 75)

    assert main(["test", *OPTIONS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"].keys() == {"loss", "accuracy", "precision", "recall", "f1", "auroc", "average_precision"}
    assert told["baselines"]["constant"].keys() == told["metrics"].keys()
    assert told["classes"]["no"]["samples"] == 98
    assert (folder / "test_confusion_matrix.png").is_file()
    both = json.loads((folder / "scores.json").read_text())
    assert both["val"] == kept
    assert both["test"]["metrics"] == told["metrics"]
    assert main(["test", *OPTIONS]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["test/accuracy", f"{told['metrics']['accuracy']:.4f}", "0.9800"] for line in shown)
    yes = [f"{told['classes']['yes'][key]:.4f}" for key in ("precision", "recall", "f1")]
    assert any(line.split() == ["yes", *yes, "2"] for line in shown)


@pytest.mark.slow
def test_the_best_checkpoint_is_of_the_metric_that_is_asked_for_and_training_ends_when_it_stalls(rare, capsys):
    chosen = ["--model.training.class_weights=balanced", "--model.training.select_by=average_precision"]
    rate = "--model.training.optimizer.learning_rate=0.05"
    assert main(["fit", *OPTIONS, *chosen, rate, "--model.training.early_stopping=2", "--trainer.max_epochs=60"]) == 0
    shown = capsys.readouterr().out
    metrics = pd.read_csv("runs/mlp/csv/1/metrics.csv").dropna(subset="val/average_precision")
    values = metrics["val/average_precision"].tolist()
    assert len(values) < 60
    assert max(values[:-2]) >= max(values[-2:])
    assert "stopped early: val/average_precision was no better 2 times in a row" in shown
    best = torch.load("runs/mlp/csv/1/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == len(values) - 1 - int(np.argmax(values[::-1]))
    assert f"best val/average_precision {max(values):.4g}" in shown


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("select_by=acuracy", "unknown metric of a binary task 'acuracy'; did you mean 'accuracy'?"),
        ("class_weights=[1,2,3]", "class_weights has 3 numbers, and there are 2 classes: no, yes"),
        ("early_stopping=0", "early_stopping is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_is_one_line(rare, capsys, option, message):
    assert main(["fit", *OPTIONS, f"--model.training.{option}"]) == 2
    assert message in capsys.readouterr().err
    assert not (rare / "runs").exists()


def test_early_stopping_needs_a_validation_split(rare, capsys):
    assert main(["fit", *OPTIONS, "--model.training.early_stopping=2", "--data.loading.validation_share=0"]) == 2
    assert "early_stopping needs a validation split" in capsys.readouterr().err


@pytest.mark.slow
def test_the_learning_rate_that_is_found_is_the_run_s_and_its_picture_is_kept(rare, capsys):
    assert main(["fit", *OPTIONS, "--trainer.max_epochs=1", "--find-learning-rate"]) == 0
    rate = float(re.search(r"^learning rate (\S+): there the loss falls fastest", capsys.readouterr().out, re.M)[1])
    config = yaml.safe_load((rare / "runs/mlp/csv/1/config.yaml").read_text())
    assert config["model"]["training"]["optimizer"]["learning_rate"] == rate != 1e-3
    assert 1e-7 < rate < 1
    assert (rare / "runs/mlp/csv/1/learning_rate.png").is_file()
    assert main(["fit", *OPTIONS, "--trainer.max_epochs=1", f"--model.training.optimizer.learning_rate={rate}"]) == 0
    first, second = (weights(rare / f"runs/mlp/csv/{n}/checkpoints/last.ckpt") for n in (1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert main(["fit", *OPTIONS, "--find-learning-rate", "--resume"]) == 2


def test_the_confusion_matrix_has_a_row_for_each_class_and_its_largest_count_is_darkest():
    picture = confusion_picture(Scores({}, {}, [[3, 9], [0, 5]]), ["no", "yes"])
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    blue = np.argwhere(pixels[..., 2] > pixels[..., 0] + 3)
    (top, left), (bottom, right) = blue.min(0), blue.max(0)
    corners = [pixels[y, x, 0] for y in (top + 3, bottom - 3) for x in (left + 3, right - 3)]
    assert corners[1] < corners[3] < corners[0] < corners[2]  # 9, 5, 3, 0: the more, the less red
    assert bottom - top == right - left
    assert confusion_picture(Scores({}, {}, [[1] * 51] * 51), None) is None
    assert confusion_picture(Scores({}), None) is None


def test_rows_of_metrics_and_classes_are_the_same_for_the_terminal_and_the_card():
    scores = Scores({"accuracy": 0.75, "auroc": 0.5}, {"constant": {"accuracy": 0.5}}, [[2, 1], [0, 1]])
    assert metric_rows(scores, {"loss": 0.25} | scores.values) == [
        ["metric", "score", "constant"],
        ["loss", "0.2500", ""],
        ["accuracy", "0.7500", "0.5000"],
        ["auroc", "0.5000", ""],
    ]
    rows = [["1.0000", "0.6667", "0.8000", "3"], ["0.5000", "1.0000", "0.6667", "1"]]
    head = ["class", "precision", "recall", "f1", "samples"]
    assert class_rows(scores, ["no", "yes"]) == [head, ["no", *rows[0]], ["yes", *rows[1]]]
    assert class_rows(scores, None) == [head, ["0", *rows[0]], ["1", *rows[1]]]


def test_a_fingerprint_is_of_a_files_content_and_of_a_folders_names_and_sizes(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"abc")
    (tmp_path / "a.txt").write_bytes(b"12345")
    found = fingerprint(tmp_path / "sub" / "b.txt")
    assert (found["size"], found["sha256"]) == (3, hashlib.sha256(b"abc").hexdigest())
    found = fingerprint(tmp_path)
    assert (found["size"], found["sha256"]) == (8, hashlib.sha256(b"a.txt\x005\x00sub/b.txt\x003\x00").hexdigest())
