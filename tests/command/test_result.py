import json
import math
import os
import signal
import subprocess
import sys
import time

import lightning as L
import pandas as pd
import pytest
import torch

from unvanish.command.main import main
from unvanish.command.result import Result
from unvanish.gradients.judge.report import Report
from unvanish.gradients.record import Record

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=3"]
WHERE = "test_result.Crash"


class Crash(L.Callback):
    """A callback with a bug, at a step."""

    def __init__(self, step: int):
        self.step = step

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            raise LookupError("a bug of the user's")


def fit(*words, code=0, recipe="mlp/wine"):
    assert main(["fit", recipe, *SMALL, *words]) == code


@pytest.mark.slow
def test_a_run_that_finishes_keeps_what_came_of_it(workplace, capsys):
    fit("--test", "--seed=5", "--model.training.optimizer.learning_rate=0.1")
    folder = workplace / "runs/mlp/wine/1"
    result = Result.read(folder)
    assert (result.recipe, result.seed, result.state, result.error) == ("mlp/wine", 5, "finished", "")
    assert (result.metric, result.mode, result.steps, len(result.curve)) == ("accuracy", "max", 24, 3)
    table = pd.read_csv(folder / "metrics.csv").dropna(subset="val/accuracy")
    latest_best = table.loc[table["val/accuracy"].iloc[::-1].idxmax()]
    assert result.best_epoch == latest_best["epoch"]
    assert result.best_step == latest_best["step"] + 1
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert (best["epoch"], best["global_step"]) == (result.best_epoch, result.best_step)
    for name in ("accuracy", "loss"):
        assert result.scores[f"val/{name}"] == pytest.approx(latest_best[f"val/{name}"])
    assert [point["val/loss"] for point in result.curve] == pytest.approx(table["val/loss"].tolist())
    assert result.seconds_per_epoch == pytest.approx(result.seconds / 3)
    report = json.loads((folder / "gradient_report.json").read_text())
    assert (result.first_over_last_end, result.findings) == (report["first_over_last"], report["findings"])
    assert result.first_update_ratio == report["layers"][0]["update_ratio"]["start"]
    assert result.parameters == 13 * 7 + 7 + 7 * 3 + 3
    assert result.data.startswith("(115, 13):")
    assert result.versions["lightning"] == L.__version__
    capsys.readouterr()
    assert main(["test", str(folder / "config.yaml"), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["metrics"]
    kept = {name.removeprefix("test/"): value for name, value in result.scores.items() if name.startswith("test/")}
    assert kept.pop("accuracy_constant") == pytest.approx(14 / 36)
    assert kept == pytest.approx(tested)


def test_it_is_plain_json_that_gives_back_nan_and_a_damaged_one_is_refused(tmp_path):
    result = Result("a", 3, scores={"val/loss": math.inf}, curve=[{"step": 1.0, "val/loss": math.nan}])
    result.save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["curve"] == [{"step": 1.0, "val/loss": "nan"}]
    again = Result.read(tmp_path)
    assert (again.scores, math.isnan(again.curve[0]["val/loss"]), again.seed) == ({"val/loss": math.inf}, True, 3)
    (tmp_path / "result.json").write_text('{"of": "another version"}')
    with pytest.raises(ValueError, match=r"result\.json is damaged, or of another version"):
        Result.read(tmp_path)


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_what_it_knows(workplace, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    callback = json.dumps([{"class_path": WHERE, "init_args": {"step": 17}}])
    fit(f"--trainer.callbacks={callback}", code=1)
    result = Result.read(workplace / "runs/mlp/wine/1")
    assert (result.state, result.error) == ("failed", "LookupError: a bug of the user's")
    assert (result.steps, result.best_epoch, len(result.curve)) == (17, result.curve[1]["epoch"], 2)
    assert result.verdict
    fit("--model.training.optimizer.name=sgd", "--model.training.optimizer.learning_rate=1e30", code=1)
    diverged = Result.read(workplace / "runs/mlp/wine/2")
    assert diverged.state == "failed"
    assert "is not finite in step" in diverged.error
    assert diverged.findings[0]["name"] == "nan"


def test_without_validation_and_gradients_the_rest_is_known(workplace):
    fit("--trainer.limit_val_batches=0", "--no-gradients")
    result = Result.read(workplace / "runs/mlp/wine/1")
    assert (result.scores, result.curve, result.verdict, result.state) == ({}, [], "", "finished")
    assert math.isnan(result.best_epoch)


@pytest.mark.slow
def test_a_stopped_run_says_so_and_one_that_goes_on_has_the_whole_curve(workplace):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "unvanish", "fit", "mlp/wine", *SMALL, "--trainer.max_epochs=100000"]
    run = subprocess.Popen(command, env=environment)
    folder = workplace / "runs/mlp/wine/1"
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints/best.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert Result.read(folder).state == "running"
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=60) == 143
    assert (folder / "gradient_report.json").is_file()
    stopped = Result.read(folder)
    assert stopped.state == "stopped"
    assert "stopped by SIGTERM" in stopped.error
    assert stopped.steps > 0
    fit("--resume", f"--trainer.max_epochs={len(stopped.curve) + 2}")
    result = Result.read(folder)
    assert (result.state, result.error) == ("finished", "")
    assert result.curve[: len(stopped.curve)] == stopped.curve
    assert [point["epoch"] for point in result.curve] == list(range(len(stopped.curve) + 2))
    seconds = [point["seconds"] for point in result.curve]
    assert seconds == sorted(seconds)
    assert result.seconds > stopped.curve[-1]["seconds"]
    fit("--resume", f"--trainer.max_epochs={len(stopped.curve) + 2}")  # nothing is left
    again = Result.read(folder)
    for name in ("state", "scores", "curve", "steps", "best_step", "verdict", "findings", "data"):
        assert getattr(again, name) == getattr(result, name)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [([1e-5, 1.0, 0.1], "vanishing then healthy"), ([1.0, 1e-5, 0.1], "healthy"), ([1e-5, 1.0, 1e-4], "vanishing")],
)
def test_a_verdict_that_training_changes_is_that_of_the_start_and_that_of_the_end(ratios, verdict):
    report = Report(window=1)
    report.add(Record(step, step, {"delta_norm": {"a": x, "b": 1.0}}) for step, x in enumerate(ratios))
    assert Result("a", 0).with_gradients(report).verdict == verdict
