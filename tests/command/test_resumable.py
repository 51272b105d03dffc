"""A checkpoint that does not fit its run is refused in one line, before anything in the run's folder is changed."""

import math
import shutil
from pathlib import Path

import lightning as L
import pytest
import torch

from unvanish.command.checkpoint_file import read, write
from unvanish.command.main import main
from unvanish.command.resumable import _Each, unlike

TRAIN = [
    *("fit", "-c", "mlp/wine", "--model.hidden_sizes=[7]", "--trainer.max_epochs=2"),
    "--model.training.schedule.name=cosine",
]


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        ({"a": 3, "b": 5}, {"a": 0}, ""),
        ({"b": 5}, {"a": 0}, "a is missing"),
        ({"a": {"b": []}}, {"a": {"b": {}}}, "a.b is of type list"),
        ([2.5, 3], [0.0, 1.0], ""),
        ([2.5], [0.0, 1.0], " has 1 entries instead of 2"),
        ({"a": [3, "x"]}, {"a": _Each(0)}, "a[1] is of type str"),
        ({"a": True}, {"a": 0}, "a is of type bool"),
        ({"a": 1}, {"a": True}, "a is of type int"),
        ({"a": -7}, {"a": 0}, "a is -7"),
        ({"a": -7}, {"a": -1}, ""),
        ({"a": 2**70}, {"a": 0}, f"a is {2**70}"),
        ({"a": math.nan}, {"a": 0.5}, "a is nan"),
        ({"a": -5.0}, {"a": math.inf}, ""),
        ({"a": math.inf}, {"a": math.inf}, ""),
        ({"a": math.inf}, {"a": 0.5}, "a is inf"),
        ({"a": torch.ones(3, 5)}, {"a": torch.ones(5, 3)}, "a has the shape (3, 5), and needs (5, 3)"),
        ({"a": torch.ones(3).int()}, {"a": torch.ones(3)}, "a is of torch.int32, and needs torch.float32"),
        ({"a": torch.tensor(-3.0)}, {"a": torch.tensor(0.0)}, "a is -3.0"),
        ({"a": "whatever"}, {"a": None}, ""),
    ],
)
def test_what_is_not_like_an_example_is_named(value, like, expected):
    assert unlike(value, like) == expected


def of_first(change):
    """A change of the first parameter's entry in the optimizer's state."""
    return lambda state: change(state["optimizer_states"][0]["state"][0])


def of_group(change):
    return lambda state: change(state["optimizer_states"][0]["param_groups"][0])


ODD = {
    "another shape": (of_first(lambda s: s.update(exp_avg=torch.ones(5, 5))), "exp_avg has the shape (5, 5)"),
    "a moment is missing": (of_first(lambda s: s.pop("exp_avg_sq")), "state.0.exp_avg_sq is missing"),
    "a negative step": (of_first(lambda s: s.update(step=torch.tensor(-3.0))), "state.0.step is -3.0"),
    "no state": (lambda s: s["optimizer_states"][0].update(state={}), "optimizer_states[0].state is empty"),
    "a group too many": (
        lambda s: s["optimizer_states"][0]["param_groups"].append(s["optimizer_states"][0]["param_groups"][0]),
        "optimizer_states[0]: loaded state dict has a different number of parameter groups",
    ),
    "a parameter too many": (of_group(lambda g: g["params"].append(4)), "doesn't match the size of optimizer's group"),
    "a parameter by name": (of_group(lambda g: g["params"].__setitem__(0, "x")), ".state[0] belongs to no parameter"),
    "no rate": (of_group(lambda g: g.pop("lr")), "optimizer_states[0].param_groups[0].lr is missing"),
    "a negative rate": (of_group(lambda g: g.update(lr=-3)), "optimizer_states[0].param_groups[0].lr is -3"),
    "one beta": (of_group(lambda g: g.update(betas=(0.9,))), "param_groups[0].betas has 1 entries instead of 2"),
    "no optimizer": (lambda s: s.update(optimizer_states=[]), "optimizer_states has 0 entries instead of 1"),
    "no schedule": (lambda s: s.update(lr_schedulers=[]), "lr_schedulers has 0 entries instead of 1"),
    "a schedule without its epoch": (lambda s: s["lr_schedulers"][0].pop("last_epoch"), "last_epoch is missing"),
    "a schedule that counts in words": (
        lambda s: s["lr_schedulers"][0].update(_step_count="x"),
        "lr_schedulers[0]._step_count is of type str",
    ),
    "a loader that is nowhere": (
        lambda s: s["loops"]["fit_loop"]["state_dict"].update(combined_loader=[]),
        "loops.fit_loop.state_dict.combined_loader has 0 entries instead of 1",
    ),
    "a curve of numbers": (lambda s: s["callbacks"]["ResultWriter"].update(points=[3]), "points[0] is of type int"),
    "no curve": (lambda s: s["callbacks"].pop("ResultWriter"), "callbacks.ResultWriter is missing"),
    "a report that is none": (
        lambda s: s["callbacks"]["GradientMonitor"].update(recorder=3),
        "callbacks.GradientMonitor.recorder is of type int",
    ),
    "generators of another kind": (lambda s: s["unvanish"]["random"][0].pop("numpy"), "random[0].numpy is missing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was killed in its first epoch: its curves are longer than its checkpoint knows."""
    folder = tmp_path_factory.mktemp("trained")
    assert main([*TRAIN, "--trainer.max_steps=5", f"--runs={folder}"]) == 0
    with (folder / "mlp/wine/1/metrics.csv").open("a") as file:
        file.write("7,7,7,7\n")
    return folder


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_one_that_does_not_fit_leaves_the_run_as_it_was(workplace, capsys, run, name):
    change, expected = ODD[name]
    shutil.copytree(run, "runs")
    folder = Path("runs/mlp/wine/1")
    state = read(folder / "checkpoints/last.ckpt")
    change(state)
    write(state, folder / "checkpoints/last.ckpt")
    before = files_of(folder)
    capsys.readouterr()
    assert main([*TRAIN, "--resume"]) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("unvanish: runs/mlp/wine/1/checkpoints/last.ckpt cannot be resumed: ")
    assert expected in answer
    assert answer.count("\n") == 1
    assert files_of(folder) == before


@pytest.mark.slow
def test_one_that_fits_cuts_the_curves_and_goes_on(workplace, run):
    shutil.copytree(run, "runs")
    assert main([*TRAIN, "--resume"]) == 0
    assert "7,7,7,7" not in Path("runs/mlp/wine/1/metrics.csv").read_text()
    assert read(Path("runs/mlp/wine/1/checkpoints/last.ckpt"))["global_step"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw", "muon", "torch.optim.Adagrad", "torch.optim.NAdam"])
def test_what_each_optimizer_keeps_fits_it(workplace, optimizer):
    words = [*TRAIN, f"--model.training.optimizer.name={optimizer}"]
    assert main([*words, "--trainer.max_steps=5"]) == 0
    assert main([*words, "--resume"]) == 0


@pytest.mark.slow
def test_a_parameter_without_a_state_is_said(workplace, capsys, run):
    shutil.copytree(run, "runs")
    path = Path("runs/mlp/wine/1/checkpoints/last.ckpt")
    state = read(path)
    del state["optimizer_states"][0]["state"][2]
    write(state, path)
    assert main([*TRAIN, "--resume"]) == 0
    assert "1 of 4 parameters have no state in the optimizer: they begin anew" in capsys.readouterr().out


@pytest.mark.slow
def test_generators_of_other_devices_with_a_number_in_stock_and_an_option_that_changes_fit(workplace, run):
    shutil.copytree(run, "runs")
    path = Path("runs/mlp/wine/1/checkpoints/last.ckpt")
    state = read(path)
    states = state["unvanish"]["random"][0]
    states["cuda"] = [states["torch"], states["torch"]]
    states["numpy"] = (*states["numpy"][:3], 1, -0.73)
    states["python"] = (*states["python"][:2], 0.5)
    del state["callbacks"]["FiniteSteps"]  # as with --on-nonfinite=ignore
    write(state, path)
    assert main([*TRAIN, "--resume"]) == 0


class Unfreezes(L.Callback):
    """Gives the optimizer another group before the checkpoint is restored, as Lightning's finetuning callbacks do."""

    def on_fit_start(self, trainer, pl_module):
        (optimizer,) = trainer.optimizers
        first, *rest = optimizer.param_groups[0]["params"]
        optimizer.param_groups[0]["params"] = [first]
        optimizer.add_param_group({**optimizer.param_groups[0], "params": rest})


@pytest.mark.slow
def test_callbacks_may_change_the_optimizers_before_they_are_compared(workplace):
    words = [*TRAIN, "--model.training.schedule.name=constant", "--trust=test_resumable"]
    words += ["--trainer.callbacks={class_path: test_resumable.Unfreezes}"]
    assert main([*words, "--trainer.max_steps=5"]) == 0
    assert main([*words, "--resume"]) == 0
