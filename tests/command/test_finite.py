import json
import math

import lightning as L
import pandas as pd
import pytest
import torch

from unvanish.command.best import Best
from unvanish.command.checkpoint_file import read, write
from unvanish.command.finite import STOP, FiniteSteps, NonFinite
from unvanish.command.keeper import is_finite
from unvanish.command.main import main
from unvanish.gradients import GradientMonitor

TRAIN = ["fit", "-c", "mlp/wine", "--model.hidden_sizes=[7]", "--trainer.max_epochs=3"]


class Infinite(L.Callback):
    """Has one loss, or one gradient, be infinite."""

    def __init__(self, step: int, what: str = "loss"):
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and self.what == "loss":
            batch[0].mul_(math.inf)

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step and self.what == "gradient":
            pl_module.output.weight.grad[0, 0] = math.nan


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    import os

    monkeypatch.syspath_prepend(os.path.dirname(__file__))


def infinite(step, what="loss"):
    arguments = {"step": step, "what": what}
    return "--trainer.callbacks=" + json.dumps([{"class_path": "test_finite.Infinite", "init_args": arguments}])


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_run_stops_at_the_step_and_keeps_the_one_before(workplace, capsys, what, gradients):
    words = [] if gradients else ["--no-gradients"]
    assert main([*TRAIN, infinite(13, what), *words]) == 1
    answer = capsys.readouterr().err
    assert answer.count("\n") == 1
    assert answer.startswith(f"unvanish: the {what} is not finite in step 13")
    assert "last.ckpt is of step 13; " in answer
    if gradients:
        assert ": the gradient is nan in output" in answer
    kept = read(workplace / "runs/mlp/wine/1/checkpoints/last.ckpt")
    assert kept["global_step"] == 13
    assert all(weight.isfinite().all() for weight in kept["state_dict"].values())


@pytest.mark.slow
def test_a_skipped_step_changes_neither_weights_nor_running_means_and_is_counted(workplace, capsys):
    words = [*TRAIN, "--model.normalization=batch", "--trainer.max_steps=14"]
    assert main([*words, infinite(13), "--on-nonfinite=skip"]) == 0
    assert "1 steps were skipped" in capsys.readouterr().out
    assert main([*TRAIN, "--model.normalization=batch", "--trainer.max_steps=13"]) == 0
    skipped, before = (read(workplace / f"runs/mlp/wine/{n}/checkpoints/last.ckpt")["state_dict"] for n in (1, 2))
    assert all(torch.equal(skipped[name], before[name]) for name in before)
    report = json.loads((workplace / "runs/mlp/wine/1/gradient_report.json").read_text())
    assert (report["steps"], report["skipped_steps"]) == (13, 1)
    assert report["verdict"] != "nan"


@pytest.mark.slow
def test_a_run_that_skips_every_step_is_stopped(workplace, capsys):
    sgd = ["--model.training.optimizer.name=sgd", "--model.training.optimizer.learning_rate=1e30"]
    assert main([*TRAIN, *sgd, "--on-nonfinite=skip", "--trainer.max_epochs=20"]) == 1
    assert "of 100 steps in a row is not finite" in capsys.readouterr().err


def test_on_a_device_the_flags_are_looked_at_every_hundred_steps(monkeypatch):
    guard = FiniteSteps(STOP, GradientMonitor())
    trainer = L.Trainer(logger=False, enable_checkpointing=False)
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.ones(3)
    for _ in range(40):
        guard._put_off(trainer, torch.tensor(1.0), [weight])
    guard._put_off(trainer, torch.tensor(math.nan), [weight])
    weight.grad[1] = math.inf
    for _ in range(58):
        guard._put_off(trainer, torch.tensor(1.0), [weight])
    with pytest.raises(NonFinite) as raised:
        guard._put_off(trainer, torch.tensor(1.0), [weight])
    assert raised.value.step == 0
    assert not guard._waiting


def test_best_is_never_of_a_loss_that_is_not_finite(tmp_path):
    best = Best(tmp_path, "best", "val/accuracy", "max")
    trainer = L.Trainer(logger=False, callbacks=[best])
    kept = {}
    for name, accuracy, loss in (
        ("first", 0.9, 1.0),
        ("tie", 0.9, math.nan),
        ("more", 0.95, math.inf),
        ("nan", math.nan, 1),
    ):
        trainer._logger_connector._callback_metrics = {"val/loss": torch.tensor(float(loss))}
        kept[name] = best.check_monitor_top_k(trainer, torch.tensor(accuracy))
        if kept[name]:
            best.best_model_score, best.kth_best_model_path = torch.tensor(accuracy), "best"
            best.best_k_models = {"best": torch.tensor(accuracy)}
    assert kept == {"first": True, "tie": False, "more": False, "nan": False}


def test_weights_that_are_nan_are_known():
    network = torch.nn.Linear(3, 5)
    assert is_finite(network)
    network.bias.data[4] = math.nan
    assert not is_finite(network)


@pytest.mark.slow
def test_predict_writes_no_nan_and_replaces_nothing_unasked(workplace, capsys):
    assert main([*TRAIN, "--trainer.max_epochs=1"]) == 0
    config = "runs/mlp/wine/1/config.yaml"
    (workplace / "mine.csv").write_text("years of work")
    assert main(["predict", "-c", config, "--out=mine.csv"]) == 2
    assert "mine.csv exists already: --overwrite replaces it" in capsys.readouterr().err
    assert (workplace / "mine.csv").read_text() == "years of work"
    path = workplace / "runs/mlp/wine/1/checkpoints/best.ckpt"
    state = read(path)
    good = {name: weight.clone() for name, weight in state["state_dict"].items()}
    state["state_dict"]["output.bias"][0] = math.nan
    write(state, path)
    assert main(["predict", "-c", config, "--out=mine.csv", "--overwrite"]) == 1
    assert "best.ckpt answers NaN or infinity for 36 of 36 rows, the first of them row 0" in capsys.readouterr().err
    assert (workplace / "mine.csv").read_text() == "years of work"
    write(state | {"state_dict": good}, path)
    assert main(["predict", "-c", config, "--out=mine.csv", "--overwrite"]) == 0
    assert len(pd.read_csv("mine.csv")) == 36


@pytest.mark.slow
def test_compare_marks_a_run_that_diverges_and_ends_with_1(workplace, capsys):
    small = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=2", "--model.training.optimizer.name=sgd"]
    assert main(["compare", "mlp/wine", "--set=model.training.optimizer.learning_rate=0.01,1e30", *small]) == 1
    shown = capsys.readouterr().out
    assert "failed: the loss is not finite in step 1" in shown
    assert "learning_rate=0.01" in shown
