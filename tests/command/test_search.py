import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import optuna
import pytest
import yaml

from unvanish.command.errors import PrunedError, WrongInputError
from unvanish.command.main import main
from unvanish.command.result import Result
from unvanish.command.search.pruners import MedianPruner
from unvanish.command.search.space import Between, space_of, suggested
from unvanish.command.search.study import open_study

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=2"]
RATE = "model.training.optimizer.learning_rate"


def test_a_space_is_ranges_and_lists_of_a_file_and_of_the_command_line(workplace):
    (workplace / "space.yaml").write_text(
        "model:\n  activation: [relu, tanh]\n  num_layers: 2..20\n"
        f"{RATE}: 1e-4..1e-1,log\nmodel.residual: [true, false]\n"
    )
    space = space_of("space.yaml", ["model.num_layers=3..5", "data.loading.batch_size=8,16"])
    assert space == {
        "model.activation": ["relu", "tanh"],
        "model.num_layers": Between(3, 5),
        RATE: Between(1e-4, 1e-1, log=True),
        "model.residual": [True, False],
        "data.loading.batch_size": [8, 16],
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggested(study.ask(), space) for _ in range(50)]
    assert {values["model.num_layers"] for values in drawn} == {3, 4, 5}
    assert {values["model.residual"] for values in drawn} == {True, False}
    assert sum(values[RATE] < 10**-2.5 for values in drawn) == pytest.approx(25, abs=12)  # half of the logarithms


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("model.depth", "--set is 'model.depth'; it is KEY=lo..hi"),
        ("a=5..2", "a: '5..2' is no range; it has two numbers, the lower first"),
        ("a=0..2,log", "above 0"),
        ("a=x..y", "is no range"),
        ("a=3", "a has '3'; it is KEY=lo..hi"),
    ],
)
def test_what_is_no_space_is_one_line(setting, answer):
    with pytest.raises(WrongInputError, match=answer.replace(".", r"\.")):
        space_of(None, [setting])


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("model.activation=relu,tahn", "unknown activation 'tahn'; did you mean 'tanh'?"),
        ("model.num_layer=1..2", "unknown key 'model.num_layer'; did you mean 'model.num_layers'?"),
    ],
)
def test_a_value_that_no_trial_could_have_is_refused_before_the_first(workplace, capsys, setting, answer):
    assert main(["search", "mlp/wine", f"--set={setting}", "--trials=1"]) == 2
    assert answer in capsys.readouterr().err
    assert not (workplace / "runs").exists()


@pytest.mark.slow
def test_a_search_keeps_table_picture_and_the_best_as_a_recipe_and_prunes_what_does_not_learn(workplace, capsys):
    words = ["search", "mlp/wine", *SMALL, f"--set={RATE}=1e-3..1e-1,log", "--set=model.num_layers=1,40"]
    words += ["--model.activation=sigmoid", "--model.initialization=default", "--out=here", "--sampler=random"]
    assert main([*words, "--trials=6", "--model.hidden_sizes=5"]) == 0
    shown = capsys.readouterr().out
    study = open_study(workplace / "here")
    trials = study.trials
    assert [trial.state.name for trial in trials] == [
        "PRUNED" if trial.params["model.num_layers"] == 40 else "COMPLETE" for trial in trials
    ]
    for trial in trials:
        result = Result.read(workplace / f"here/trials/{trial.number:04}")
        if trial.state.name == "PRUNED":
            assert (result.state, result.steps) == ("pruned", 10)
            assert result.error.startswith("pruned after 10 steps: vanishing: ")
            assert trial.user_attrs["why"] == result.error
        else:
            assert trial.value == result.validation
    assert "trials to the end" in shown
    best = yaml.safe_load((workplace / "here/best.yaml").read_text())
    assert best["model"]["num_layers"] == 1
    assert best["model"]["training"]["optimizer"]["learning_rate"] == study.best_params[RATE]
    assert (workplace / "here/search.png").read_bytes().startswith(b"\x89PNG")
    assert main(["fit", "here/best.yaml"]) == 0
    assert Result.read(workplace / "runs/mlp/wine/best/1").validation == study.best_value
    assert main([*words, "--trials=6", "--model.hidden_sizes=5"]) == 0  # nothing is left
    capsys.readouterr()
    for word, told in (
        ("--set=model.num_layers=1,3", "model.num_layers [1, 40], and here it is [1, 3]"),
        (f"--set={RATE}=1e-3..1", f"{RATE} 0.001..0.1,log, and here it is 0.001..1"),
        ("--trainer.max_epochs=3", "trainer.max_epochs 2, and here it is 3"),
        ("--set=model.activation=relu,tanh", "model.activation sigmoid, and here it is ['relu', 'tanh']"),
    ):
        assert main([*words, "--trials=7", "--model.hidden_sizes=5", word]) == 2
        assert f"here is a search with {told}; --out names a new folder" in capsys.readouterr().err
    assert len(open_study(workplace / "here").trials) == 6


def test_what_is_not_ill_is_stopped_below_the_median_once_it_is_under_way(tmp_path):
    study = open_study(tmp_path, direction="maximize")

    def validated(score, step):
        trainer = SimpleNamespace(
            callback_metrics={"val/accuracy": score},
            sanity_checking=False,
            global_step=step,
            estimated_stepping_batches=100,
        )
        MedianPruner(tmp_path, len(study.trials) - 1, "accuracy", 3, 0.25).on_validation_end(trainer, None)

    for score in (0.9, 0.7, 0.1):
        trial = study.ask()
        for step in (20, 40):
            validated(score, step)  # of the third, two have come to their end
        study.tell(trial, score)
    study.ask()
    validated(0.6, 20)
    with pytest.raises(PrunedError, match="pruned after 40 steps: below the median"):
        validated(0.6, 40)
    study.ask()
    validated(0.8, 40)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_with_the_trial_that_was_trained(workplace):
    words = [sys.executable, "-m", "unvanish", "search", "mlp/wine", f"--set={RATE}=1e-3..1e-1,log", "--out=here"]
    words += ["--model.hidden_sizes=[7]", "--trainer.max_epochs=100", "--trials=2"]
    run = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"})
    checkpoint = workplace / "here/trials/0000/checkpoints/last.ckpt"
    deadline = time.monotonic() + 600
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (killed,) = open_study(workplace / "here").trials
    assert killed.state.name == "RUNNING"
    while Result.read(checkpoint.parents[1]).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)  # the trial notices that nobody waits for it
    assert Result.read(checkpoint.parents[1]).state == "stopped"
    assert main(["search", *words[4:]]) == 0
    first, second = open_study(workplace / "here").trials
    assert first.params == killed.params
    assert (first.state.name, second.state.name) == ("COMPLETE", "COMPLETE")
    assert ", from step " in (workplace / "here/trials/0000.log").read_text()
    whole = Result.read(checkpoint.parents[1])
    assert len(whole.curve) == 100
    assert json.loads((workplace / "here/trials/0000/result.json").read_text())["state"] == "finished"
