import json
import math
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import tensor
from torch.utils.tensorboard import SummaryWriter

from benchmarks.papers import training
from benchmarks.papers.row import Settings
from unvanish import MLP
from unvanish.command import recipes
from unvanish.command.experiment import Experiment

FOLDER = recipes.packaged() / "papers"


def run(variant, test, seed=0, curve=(), error=""):
    return {"variant": variant, "seed": seed, "test": test, "curve": list(curve), "error": error}


@pytest.fixture
def kept(monkeypatch):
    """Stands in for ``unvanish compare``, which keeps these runs: a list a variant."""
    calls = []

    def keep(code=0, **variants):
        def main(words):
            calls.append(words)
            folder = Path(next(word.removeprefix("--out=") for word in words if word.startswith("--out=")))
            folder.mkdir(parents=True, exist_ok=True)
            found = [{"variant": name, "runs": runs} for name, runs in variants.items()]
            (folder / "comparison.json").write_text(json.dumps({"variants": found}))
            print("a table")
            return code

        monkeypatch.setattr(training, "main", main)
        return calls

    return keep


def scored(**accuracies):
    return {name: [run(name, value, seed) for seed, value in enumerate(found)] for name, found in accuracies.items()}


def passed(figures):
    return [figure.passed for figure in figures]


def test_every_row_has_its_recipes_and_every_recipe_its_row():
    keys = {row.key for row in training.ROWS}
    assert keys - {path.stem for path in FOLDER.glob("*.yaml")} == {"nanogpt_cpu"}
    assert {path.stem for path in FOLDER.glob("*.yaml")} < keys


def test_compare_is_asked_for_what_the_settings_say_and_its_table_leaves_ours_alone(kept, tmp_path, capsys):
    calls = kept(**scored(he=[0.5]))
    settings = Settings(Path("there"), seeds=7, jobs=2, out=tmp_path)
    (found,) = training.on_mnist(settings, "papers/x")["he"]
    assert calls == [["compare", "papers/x", "--seeds=7", "--jobs=2", f"--out={tmp_path}/x", "--data.root=there"]]
    assert found == (tmp_path / "x/he/seed0", 0.5, [])
    assert capsys.readouterr() == ("", "a table\n")


def test_numbers_that_are_none_are_words_in_json(kept, tmp_path):
    kept(a=[run("a", "nan", curve=[{"step": 3, "val/loss": "inf"}])])
    (found,) = training.compared(Settings(tmp_path, out=tmp_path), "x")["a"]
    assert math.isnan(found.test)
    assert found.curve == [{"step": 3, "val/loss": math.inf}]


def test_a_run_that_fails_or_is_refused_is_no_figure(kept, tmp_path):
    settings = Settings(tmp_path, out=tmp_path)
    kept(code=1, he=[run("he", 0.9), run("he", "nan", 1, error="too little memory")])
    with pytest.raises(RuntimeError, match=r"^he, seed 1: too little memory$"):
        training.he_30_layers(settings)
    kept(code=2)
    with pytest.raises(RuntimeError, match="unvanish compare papers/he_30_layers has refused its input"):
        training.he_30_layers(settings)


def test_a_network_trains_where_the_depth_scale_of_theory_reaches(kept, tmp_path):
    good = {"1.0": [0.1135], "1.5": [0.9, 0.91], "1.76095": [0.9], "2.5": [0.86], "4.0": [0.11]}
    names = {f"sigma_w2_{name}": values for name, values in good.items()}
    assert [*names] == [*recipes.variants(FOLDER / "trainable_depth.yaml")]
    kept(**scored(**names))
    figures = training.trainable_depth(Settings(tmp_path, out=tmp_path))
    assert passed(figures) == [True] * 5
    assert figures[0].what == "sigma_w^2 = 1, test accuracy in %"
    assert figures[1].ours == [90, 91]
    assert [figure.expected for figure in figures] == [
        "< 12, for 6 xi = 21.8 < 60",
        "> 85, for 6 xi = 94.7 > 60",
        "> 85, for 6 xi = inf > 60",
        "> 85, for 6 xi = 70.8 > 60",
        "< 12, for 6 xi = 41.9 < 60",
    ]
    kept(**scored(**{name: [0.9, 0.5] for name in names}))
    assert passed(training.trainable_depth(Settings(tmp_path, out=tmp_path))) == [False] * 5


def test_he_learns_and_the_others_do_not(kept, tmp_path):
    def runs(he, xavier, default, halfway):
        curve = [{"step": step, "val/accuracy": value} for step, value in ((500, 0.5), (1000, halfway), (2000, 0.5))]
        return scored(he=he, default=default) | {"xavier": [run("xavier", value, curve=curve) for value in xavier]}

    settings = Settings(tmp_path, out=tmp_path)
    calls = kept(**runs([0.91, 0.95], [0.1135], [0.098], 0.1123))
    assert passed(training.he_30_layers(settings)) == [True] * 4
    assert "--seeds=6" in calls[0]
    kept(**runs([0.95, 0.89], [0.1135, 0.13], [0.1, "nan"], 0.2))
    assert passed(training.he_30_layers(settings)) == [False] * 4


def checkpoint(folder, name, weight, bias):
    """A network of one hidden unit with the input weight x + bias."""
    model = MLP((1,), 10, [1], activation="sigmoid")
    model.load_state_dict(
        model.state_dict() | {"hidden.0.linear.weight": tensor([[weight]]), "hidden.0.linear.bias": tensor([bias])}
    )
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    kept = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save({"pytorch-lightning_version": L.__version__, **kept}, folder / "checkpoints" / name)


def curves(**accuracies):
    return {
        f"{name},initialization=normal_{std}_": [
            run(name, values[-1], curve=[{"step": step, "val/accuracy": value} for step, value in enumerate(values)])
        ]
        for name, values in accuracies.items()
        for std in ("0.1", "0.01")
    }


@pytest.mark.slow
def test_batchnorm_is_ahead_at_each_checkpoint_and_its_inputs_move_less_or_not(kept, tmp_path, monkeypatch):
    settings = Settings(tmp_path, seeds=3, out=tmp_path)
    monkeypatch.setattr(training, "mnist", lambda settings: (torch.linspace(0, 1, 5000).unsqueeze(1), None))
    names = [f"{name},initialization=normal_{std}_" for name in ("plain", "batchnorm") for std in ("0.1", "0.01")]
    assert [*recipes.variants(FOLDER / "bn_mnist.yaml")] == names
    for name in names:
        folder = tmp_path / "bn_mnist" / name / "seed0"
        checkpoint(folder, "early.ckpt", 1.0, 0.0)
        checkpoint(folder, "last.ckpt", *((-3.0, 4.0) if "plain" in name else (2.0, 0.0)))
    calls = kept(**curves(plain=[0.6, 0.70, 0.9], batchnorm=[0.7, 0.75, 0.97]))
    figures = training.bn_mnist(settings)
    assert "--seeds=1" in calls[0]
    assert passed(figures) == [True] * 8
    assert [[*figure.ours] for figure in figures[:4]] == [
        pytest.approx([5]),
        [90],
        pytest.approx([2 / 1.4], rel=1e-3),  # from 0.5 to 2.5, between widths of 0.7 and 2.1
        pytest.approx([3], rel=1e-3),
    ]
    assert [figure.expected for figure in figures[2:4]] == ["> 0.476191, BatchNorm's", "> 2, BatchNorm's"]
    kept(**curves(plain=[0.6, 0.76, 0.98], batchnorm=[0.7, 0.75, 0.97]))
    assert passed(training.bn_mnist(settings)) == [False, False, True, True] * 2
    for name in names[:2]:
        checkpoint(tmp_path / "bn_mnist" / name / "seed0", "last.ckpt", 1.5, 0.0)
    assert passed(training.bn_mnist(settings)) == [False] * 8


def losses(folder, ratios=(1e3, 1.0, 1e-2), **last):
    """Four networks' loss curves of 100 steps and first/last ratios of |delta|, as a run keeps them, and the runs."""
    for name, loss in last.items():
        kind, _, num_layers = name.partition("_")
        path = folder / "degradation" / f"{kind},num_layers={num_layers}" / "seed0"
        path.mkdir(parents=True, exist_ok=True)
        rows = [f"0,{step},{2.5 if step < 80 else loss + 0.01 * (-1) ** step}," for step in range(100)]
        (path / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/loss", *rows, "0,99,,3.5"]) + "\n")
        for old in path.glob("events*"):
            old.unlink()
        with SummaryWriter(path) as writer:
            for step, ratio in zip((0, 1, 9), ratios, strict=True):
                writer.add_scalar("Overview/first_over_last_log10", math.log10(ratio), step)
    return {f"{kind},num_layers={n}": [run(kind, 0.5)] for kind in ("plain", "resnet") for n in (20, 56)}


@pytest.mark.slow
def test_a_plain_network_degrades_and_a_residual_one_less(kept, tmp_path):
    settings = Settings(tmp_path, seeds=1, out=tmp_path)
    kept(**losses(tmp_path, plain_20=0.1, plain_56=2.0, resnet_20=0.09, resnet_56=0.2))
    figures = training.degradation(settings)
    assert passed(figures) == [True] * 13
    assert [ratio for figure in figures[7:10] for ratio in figure.ours] == pytest.approx([1e6, 1, 1e-4])
    assert figures[0].ours == [0.269722]
    assert figures[4].ours == [1.727962]
    assert figures[-3].ours == pytest.approx([20])
    assert figures[-1].ours == pytest.approx([0.2])
    kept(**losses(tmp_path, (20.0, 1.0, 2.0), plain_20=0.1, plain_56=0.9, resnet_20=0.11, resnet_56=1.1))
    assert passed(training.degradation(settings)[-6:]) == [False] * 6
    assert [*recipes.variants(FOLDER / "degradation.yaml")] == [*losses(tmp_path)]


def test_the_error_of_a_constant_is_a_sixth_and_gates_beat_it(kept, tmp_path):
    settings = Settings(tmp_path, out=tmp_path)
    calls = kept(**scored(rnn=[0.41], lstm=[0.05, 0.09], gru=[0.02]))
    figures = training.adding(settings)
    assert passed(figures) == [True] * 3
    assert figures[1].ours == pytest.approx([0.0025, 0.0081])
    assert not any("--data.root" in word for word in calls[0])
    kept(**scored(rnn=[0.3], lstm=[0.05, 0.11], gru=[0.4]))
    assert passed(training.adding(settings)) == [False] * 3


def test_keras_figure_is_met_from_both_sides(kept, tmp_path):
    for accuracies, expected in (([0.985, 0.983], True), ([0.98, 0.981], False), ([0.988, 0.9862], False)):
        kept(**scored(keras_mlp=accuracies))
        assert passed(training.keras_mlp(Settings(tmp_path, out=tmp_path))) == [expected]
    recipe = Experiment.parse(recipes.load(["papers/keras_mlp"]), []).arguments
    assert recipe.data.loading.validation_share == 0  # so that the last weights are tested


def test_nanogpt_s_loss_is_the_last_one(kept, tmp_path):
    settings = Settings(tmp_path, out=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^no file .*tinyshakespeare\.txt$"):
        training.nanogpt_cpu(settings)
    (tmp_path / "tinyshakespeare.txt").touch()
    for last, expected in ((1.85, True), (1.89, False)):
        curve = [{"step": 500, "val/loss": 1.87}, {"step": 2000, "val/loss": last}]
        calls = kept(text=[run("text", "nan", curve=curve)])
        figures = training.nanogpt_cpu(settings)
        assert passed(figures) == [expected]
        assert figures[0].ours == [last]
    assert calls[-1][-1] == f"--data.path={tmp_path / 'tinyshakespeare.txt'}"
