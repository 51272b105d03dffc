import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unvanish.command.main import main

SMALL = [
    *("-c", "mlp/wine", "--model.hidden_sizes=[7,5]", "--trainer.max_epochs=4", "--model.normalization=batch"),
    *("--model.training.regularization.dropout=0.3", "--model.training.schedule.name=cosine"),
]
WHERE = "test_resume.Break"


class Break(L.Callback):
    """Has something happen at a step of a training, or at a batch of a validation."""

    def __init__(self, step: int, what: str = "SIGTERM", in_validation: bool = False):
        self.step, self.what, self.in_validation = step, what, in_validation

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step and not self.in_validation:
            self._happen()

    def on_validation_batch_start(self, trainer, *_):
        if self.in_validation and trainer.global_step >= self.step and not trainer.sanity_checking:
            self._happen()

    def _happen(self):
        if self.what == "crash":
            raise LookupError("a bug of the user's")
        os.kill(os.getpid(), signal.Signals[self.what])


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))


def broken(step, what="SIGTERM", **options):
    arguments = {"step": step, "what": what, **options}
    return "--trainer.callbacks=" + json.dumps([{"class_path": WHERE, "init_args": arguments}])


def fit(*words, code=0):
    assert main(["fit", *SMALL, *words]) == code


def load(run, name="last"):
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def rows(run):
    with (run / "metrics.csv").open() as file:
        return sorted(sorted(row.items()) for row in csv.DictReader(file))


def points(run, tag):
    # Two files of one second and one process are read in the order of their names, in which 10 comes before 9.
    events = EventAccumulator(str(run), {"scalars": 0}).Reload().Scalars(tag)
    return sorted((event.step, event.value) for event in events)


def resume_without_break(run):
    """The interrupted run's own recipe still has the callback that breaks it."""
    config = run / "config.yaml"
    text = config.read_text()
    start, end = text.index("  callbacks:"), text.index("  fast_dev_run:")
    config.write_text(text[:start] + "  callbacks: null\n" + text[end:])
    assert main(["fit", "-c", str(config), "--resume"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "moment", "code"),
    [
        ([], {"step": 13}, 143),
        ([], {"step": 13, "what": "SIGINT"}, 130),
        ([], {"step": 16, "what": "SIGINT", "in_validation": True}, 130),
        (["--trainer.accumulate_grad_batches=3", "--trainer.check_val_every_n_epoch=2"], {"step": 4}, 143),
        (["--trainer.val_check_interval=3"], {"step": 3, "in_validation": True}, 143),
        (["--model.training.optimizer.name=muon", "--trainer.gradient_clip_val=0.5"], {"step": 24}, 143),
    ],
    ids=["step", "interrupt", "validation", "accumulation", "middle", "muon"],
)
def test_a_run_that_was_told_to_stop_goes_on_in_its_folder_to_the_last_bit(workplace, capsys, words, moment, code):
    fit(*words, f"--runs={workplace / 'whole'}")
    fit(*words, broken(**moment), code=code)
    whole, run = workplace / "whole/mlp/wine/1", workplace / "runs/mlp/wine/1"
    told = capsys.readouterr().err
    name = {130: "SIGINT", 143: "SIGTERM"}[code]
    assert told.startswith(f"unvanish: stopped by {name}; runs/mlp/wine/1/checkpoints/last.ckpt is of step ")
    assert told.endswith("; go on with `unvanish fit -c runs/mlp/wine/1/config.yaml --resume --trust test_resume`\n")
    resume_without_break(run)
    for what in ("state_dict", "optimizer_states", "lr_schedulers", "loops"):
        assert same(load(whole)[what], load(run)[what]), what
    assert same(load(whole, "best")["state_dict"], load(run, "best")["state_dict"])
    assert rows(whole) == rows(run)
    for tag in ("train/loss", "val/loss", "val/accuracy"):
        assert points(whole, tag) == points(run, tag)
    reports = [json.loads((folder / "gradient_report.json").read_text()) for folder in (whole, run)]
    assert reports[0] == reports[1]
    assert reports[0]["steps"] == load(whole)["global_step"]
    assert [path.name for path in (workplace / "runs/mlp/wine").iterdir()] == ["1"]


@pytest.mark.slow
def test_a_crash_keeps_the_moment_before_the_step_that_failed_and_its_traceback(workplace, capsys):
    fit(f"--runs={workplace / 'whole'}")
    fit(broken(11, "crash"), code=1)
    shown = capsys.readouterr().err
    assert shown.rstrip().endswith("LookupError: a bug of the user's")
    assert shown.startswith("Traceback (most recent call last):\n  ... ")
    assert 'raise LookupError("a bug of the user\'s")' in shown
    assert "main.py" not in shown
    run = workplace / "runs/mlp/wine/1"
    assert load(run)["global_step"] == 11
    resume_without_break(run)
    assert same(load(workplace / "whole/mlp/wine/1")["state_dict"], load(run)["state_dict"])


@pytest.mark.slow
def test_resume_takes_the_newest_run_of_the_same_configuration_and_may_train_it_longer(workplace, capsys):
    fit("--trainer.max_epochs=1")
    fit("--trainer.max_epochs=1", "--seed=1")
    for words in (["fit", *SMALL, "--seed=1"], ["fit", "-c", "runs/mlp/wine/1/config.yaml", "--trainer.max_epochs=3"]):
        assert main([*words, "--resume"]) == 0
    assert [load(workplace / f"runs/mlp/wine/{n}")["global_step"] for n in (1, 2)] == [24, 32]
    capsys.readouterr()
    fit("--seed=2", "--resume", code=2)
    assert "runs/mlp/wine/2 is configured otherwise: seed is 1 there and 2 here" in capsys.readouterr().err
    fit("--seed=1", "--resume")
    assert "nothing is left to train" in capsys.readouterr().out
    assert main(["fit", "-c", "mlp/iris", "--resume"]) == 2
    assert "no run with a checkpoint in runs/mlp/iris" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_refuses_data_that_have_changed(workplace, capsys):
    (workplace / "t.csv").write_text("\n".join(["x,y", *(f"{x},{x % 3}" for x in range(90))]))
    words = ["fit", "-c", "mlp/csv", "--data.path=t.csv", "--data.target=y", "--trainer.max_epochs=1"]
    assert main(words) == 0
    (workplace / "t.csv").write_text("\n".join(["x,y", *(f"{x * x},{x % 3}" for x in range(90))]))
    assert main([*words, "--trainer.max_epochs=2", "--resume"]) == 2
    assert "of other data: those of the recipe have changed since" in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_knows_the_best_before_and_its_folder_may_have_moved(workplace):
    rate = "--model.training.optimizer.learning_rate=0.05"
    fit(rate, "--model.training.schedule.name=constant", "--trainer.max_epochs=12")
    before = load(workplace / "runs/mlp/wine/1", "best")
    (workplace / "runs").rename(workplace / "moved")
    config = "moved/mlp/wine/1/config.yaml"
    # From here on it learns nothing: the rate is a hundred-millionth.
    state = torch.load("moved/mlp/wine/1/checkpoints/last.ckpt", weights_only=True)
    with torch.no_grad():
        for weight in state["state_dict"].values():
            weight.zero_()
    from pathlib import Path

    from unvanish.command.checkpoint_file import write

    write(state, Path("moved/mlp/wine/1/checkpoints/last.ckpt"))
    assert main(["fit", "-c", config, "--trainer.max_epochs=13", "--resume"]) == 0
    assert same(load(workplace / "moved/mlp/wine/1", "best")["state_dict"], before["state_dict"])


@pytest.mark.slow
def test_a_folder_that_vanishes_and_one_that_is_in_use_are_one_line(workplace, capsys):
    fit("--trainer.max_epochs=1")
    from pathlib import Path

    from unvanish.command.run_folder import occupied

    with occupied(Path("runs/mlp/wine/1")):
        fit("--resume", code=2)
    assert "runs/mlp/wine/1 is being trained by another process" in capsys.readouterr().err
    shutil.rmtree("runs/mlp/wine/1/checkpoints")
    assert main(["fit", "-c", "runs/mlp/wine/1/config.yaml", "--resume"]) == 0  # from its beginning, in its folder
    assert load(workplace / "runs/mlp/wine/1")["global_step"] == 8
    capsys.readouterr()
    shutil.rmtree("runs/mlp/wine/1")
    assert main(["fit", "-c", "runs/mlp/wine/1/config.yaml", "--resume"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_file_and_a_folder_with_odd_names_among_the_runs_do_no_harm(workplace):
    fit("--trainer.max_epochs=1")
    (workplace / "runs/mlp/wine/9999").write_text("a note")
    (workplace / "runs/mlp/wine/\u00b2").mkdir()
    fit("--resume")
    assert load(workplace / "runs/mlp/wine/1")["global_step"] == 32


@pytest.mark.slow
def test_a_checkpoint_from_elsewhere_begins_a_new_run(workplace):
    fit("--trainer.max_epochs=1")
    shutil.copy("runs/mlp/wine/1/checkpoints/last.ckpt", "kept.ckpt")
    fit("--ckpt_path=kept.ckpt")
    assert load(workplace / "runs/mlp/wine/1")["global_step"] == 8
    assert load(workplace / "runs/mlp/wine/2")["global_step"] == 32
    assert points(workplace / "runs/mlp/wine/2", "val/loss")[0][0] == 15


@pytest.mark.slow
def test_killed_runs_end_where_others_do_and_damaged_checkpoints_are_refused(workplace):
    """A sample of `make trust`: the signal that no process hears."""
    words = ["--families", "recurrent", "--signals", "SIGKILL", "--rounds", "1", "--files", "30"]
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    path = os.pathsep.join([os.path.join(root, "src"), root])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "benchmarks.trust", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 runs ended where one that was left alone does" in done.stdout.replace("\n", " ")
