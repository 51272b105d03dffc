import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unvanish import page
from unvanish.command import recipes
from unvanish.command.compare.comparison import Comparison, Kept
from unvanish.command.compare.figure import _Curves, _draw_learning, figure
from unvanish.command.compare.runs import Run
from unvanish.command.main import main
from unvanish.command.result import Result

PANEL, LEGEND, ROW = 700, 350, 420
SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=2"]
TWO = "base: mlp/wine\nvariants:\n  plain: {}\n  tanh: {model.activation: tanh, model.normalization: batch}\n"


@pytest.fixture
def two(workplace):
    """A folder with a comparison of two variants."""
    (workplace / "two.yaml").write_text(TWO)
    return workplace


def kept(name, seed=0, **values):
    """A run that is nowhere, with what has come of it."""
    return Kept(Run(name, seed, Path("nowhere") / name / f"seed{seed}"), Result("r", seed, metric="accuracy", **values))


def compare(*words):
    return main(["compare", *words, *SMALL])


def found(folder):
    return json.loads((folder / "comparison.json").read_text())


def width(png):
    """In pixels, as the header of a PNG has it."""
    return int.from_bytes(png.read_bytes()[16:20])


def height(png):
    return int.from_bytes(png[20:24])


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_the_table_says_what_the_runs_kept(two, capsys):
    assert compare("two.yaml", "--seeds=2", "--target=0.5") == 0
    shown = capsys.readouterr().out
    assert shown.rstrip().endswith("tensorboard --host localhost --logdir runs/two/1")
    assert re.search(r"^4/4 tanh, seed 1: test accuracy 0\.\d+, validation accuracy .*, \d+ s$", shown, re.MULTILINE)
    folder = two / "runs/two/1"
    kept = found(folder)
    assert (kept["metric"], kept["target"]) == ("accuracy", 0.5)
    table = shown[shown.index("\n  variant ") + 1 :].splitlines()
    assert table[0].split()[:3] == ["variant", "test", "accuracy"]
    best = max(round(variant["test_mean"], 4) for variant in kept["variants"])
    for variant, line in zip(kept["variants"], table[1:3], strict=True):
        assert line.startswith("* " if round(variant["test_mean"], 4) == best else "  ")
    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    for variant, line, row in zip(kept["variants"], table[1:3], rows, strict=True):
        assert variant["variant"] == line[2:].split()[0] == row["variant"]
        runs = variant["runs"]
        assert [run["seed"] for run in runs] == variant["seeds"] == [0, 1]
        tests = torch.tensor([run["test"] for run in runs], dtype=torch.float64)
        assert variant["test_mean"] == pytest.approx(float(tests.mean()))
        assert variant["test_std"] == pytest.approx(float(tests.std()))
        assert f"{variant['test_mean']:.4f} ± {variant['test_std']:.4f}" in line
        assert float(row["test_mean"]) == variant["test_mean"]
        for run in runs:
            report = json.loads((folder / variant["variant"] / f"seed{run['seed']}/gradient_report.json").read_text())
            both = dict.fromkeys((report["start"]["verdict"], report["verdict"]))
            assert run["verdict"] == " then ".join(both)
            assert run["factor_per_layer"] == report["factor_per_layer"]
            assert run["first_over_last_start"] == report["start"]["first_over_last"]
            assert run["first_update_ratio"] == report["layers"][0]["update_ratio"]["start"]
            assert run["validation"] == max(point["val/accuracy"] for point in run["curve"])
            assert [point["step"] for point in run["curve"]] == [run["steps"] / 2, run["steps"]]
        reached = [next((p["step"] for p in run["curve"] if p["val/accuracy"] >= 0.5), math.inf) for run in runs]
        arrived = [steps for steps in reached if steps < math.inf]
        assert variant["target_reached"] == len(arrived)
        assert float(variant["target_steps"]) == (median(arrived) if arrived else math.inf)
    for run in (run for variant in kept["variants"] for run in variant["runs"]):
        assert json.loads((two / run["folder"] / "result.json").read_text()).items() <= run.items()
    markdown = (folder / "comparison.md").read_text().splitlines()
    assert {line.count("|") for line in markdown[:4]} == {markdown[0].count("|")}
    assert kept["differing"] == {
        "model.activation": {"plain": "relu", "tanh": "tanh"},
        "model.normalization": {"plain": "none", "tanh": "batch"},
    }
    assert re.search(r"^differing in +plain +tanh\nmodel.activation +relu +tanh\n", shown, re.MULTILINE)
    assert width(folder / "comparison.png") == pytest.approx(2 * PANEL, abs=LEGEND)
    shown = page.read(folder / "report.html")
    runs = [run for variant in kept["variants"] for run in variant["runs"]]
    assert [run["name"] for run in shown] == [f"{v['variant']}/seed{n}" for v in kept["variants"] for n in range(2)]
    assert [run["score"] for run in shown] == [{"name": "test accuracy", "value": run["test"]} for run in runs]
    assert {len(run["quantities"]["delta"]["layers"]) for run in shown} == {len(report["layers"])}


@pytest.mark.slow
def test_a_large_grid_has_a_row_of_panels_for_each_variant(tmp_path):
    def drawn(heads, points):
        names = [f"{head},num_layers={point}" for head in "abc"[:heads] for point in range(points)]
        curve = [{"step": 1, "val/accuracy": 0.5}]
        return height(figure(Comparison([kept(name, curve=curve) for name in names], None, tmp_path)))

    together = drawn(2, 5)
    assert drawn(3, 4) == together
    assert drawn(1, 30) == together  # nothing to part them by
    assert drawn(2, 6) == pytest.approx(2 * ROW, abs=20)  # there are five kinds of line
    assert drawn(3, 5) == pytest.approx(3 * ROW, abs=20)
    assert together < 2 * ROW


def test_a_curve_ends_where_the_first_seed_stops_and_breaks_where_there_is_no_number(tmp_path):
    def run(seed, *accuracies):
        curve = [{"step": 10 * step, "val/accuracy": accuracy} for step, accuracy in enumerate(accuracies, 1)]
        return kept("a", seed, curve=curve)

    runs = [run(0, 0.5, 0.6), run(1, 0.7, math.nan, 0.9), kept("a", 2, error="failed")]
    comparison = Comparison(runs, None, tmp_path)
    axes = Axes(Figure(), (0, 0, 1, 1))
    _draw_learning(comparison, [_Curves(comparison.finished("a"), {"color": "red"}, [], {})], axes)
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [10, 20]
    assert line.get_ydata().tolist() == pytest.approx([0.6, math.nan], nan_ok=True)


@pytest.mark.slow
def test_what_has_finished_is_not_trained_again_and_another_configuration_is(two, capsys):
    assert compare("two.yaml", "--out=here") == 0
    first = (two / "here/plain/seed0/result.json").stat().st_mtime_ns
    before = found(two / "here")
    (two / "here/tanh/seed0/result.json").unlink()
    (two / "here/tanh/seed0/checkpoints/last.ckpt").unlink()
    (two / "here/tanh/seed0/checkpoints/best.ckpt").unlink()
    (two / "here/tanh/seed0/events.out.tfevents.half").write_text("")
    capsys.readouterr()
    assert compare("two.yaml", "--out=here") == 0
    shown = capsys.readouterr().out
    assert "1 of them there already; if interrupted, go on with --out here" in shown
    assert "2/2 tanh, seed 0" in shown
    assert "plain, seed 0" not in shown.rpartition("there already")[2]
    assert (two / "here/plain/seed0/result.json").stat().st_mtime_ns == first
    assert not (two / "here/tanh/seed0/events.out.tfevents.half").exists()
    assert [v["test_mean"] for v in found(two / "here")["variants"]] == [v["test_mean"] for v in before["variants"]]
    assert compare("two.yaml", "--out=here", "--data.loading.batch_size=17") == 0
    shown = capsys.readouterr().out
    assert "there already" not in shown
    assert "2 there of another configuration, which are trained anew" in shown


@pytest.mark.slow
def test_a_comparison_that_is_stopped_stops_its_runs_and_each_keeps_its_checkpoint(two):
    words = [sys.executable, "-m", "unvanish", "compare", "two.yaml", "--out=here", "--jobs=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*words, "--trainer.max_epochs=100000"], env=environment, stderr=subprocess.PIPE, text=True)
    folders = [two / f"here/{name}/seed0" for name in ("plain", "tanh")]
    deadline = time.monotonic() + 240
    while not all((f / "checkpoints/last.ckpt").exists() for f in folders) and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 143
    again = "unvanish compare two.yaml --out=here --jobs=2 --trainer.max_epochs=100000"
    assert f"unvanish: stopped by SIGTERM; go on with `{again}`\n" in said
    for folder in folders:
        result = Result.read(folder)
        assert result.state == "stopped"
        assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == result.steps


@pytest.mark.slow
def test_an_interrupted_run_goes_on_from_its_checkpoint_in_its_comparison(workplace, capsys):
    words = ["compare", "mlp/wine", "--model.hidden_sizes=[7]", "--model.normalization=batch"]
    assert main([*words, "--out=whole", "--trainer.max_epochs=3"]) == 0
    assert main([*words, "--out=here", "--trainer.max_epochs=2"]) == 0
    whole, here = (workplace / folder / "mlp/wine/seed0" for folder in ("whole", "here"))
    config = here / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    replace(Result.read(here), state="stopped", error="stopped by SIGINT").save(here)
    assert main([*words, "--out=here", "--trainer.max_epochs=3"]) == 0
    assert "there already" not in capsys.readouterr().out.rpartition("1 runs")[2]
    results = [Result.read(folder) for folder in (whole, here)]
    assert [p["val/loss"] for p in results[0].curve] == [p["val/loss"] for p in results[1].curve]
    assert results[0].scores == results[1].scores
    assert same(*(weights(folder / "checkpoints/last.ckpt") for folder in (whole, here)))


@pytest.mark.slow
def test_a_failing_run_is_a_row_that_says_so_and_is_tried_again(workplace, capsys):
    diverge = "{model.training.optimizer.learning_rate: 1e30, trainer.detect_anomaly: true}"
    (workplace / "bad.yaml").write_text(f"base: mlp/wine\nvariants:\n  bad: {diverge}\n  good: {{}}\n")
    assert compare("bad.yaml", "--out=here") == 1
    shown = capsys.readouterr().out
    assert "1/2 bad, seed 0: failed: RuntimeError: " in shown
    assert "failed: " in next(line for line in shown.splitlines() if line.startswith("  bad "))
    bad, good = found(workplace / "here")["variants"]
    assert bad["test_mean"] == "nan"
    assert bad["runs"][0]["error"]
    assert good["test_mean"] > 0
    assert compare("bad.yaml", "--out=here") == 1
    assert "2 runs of 2 variants, 1 of them there already" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_is_said_and_the_others_train(workplace, capsys):
    (workplace / "deadly.py").write_text(
        "import os\nimport lightning as L\nclass Kill(L.Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n        os.kill(os.getpid(), 9)\n"
        "class Bug(L.Callback):\n    def on_train_start(self, trainer, pl_module):\n        raise LookupError('mine')\n"
    )
    (workplace / "k.yaml").write_text(
        "base: mlp/wine\nvariants: {k: {trainer.callbacks: {class_path: deadly.Kill}},"
        " b: {trainer.callbacks: {class_path: deadly.Bug}}, a: {}}"
    )
    assert compare("k.yaml", "--jobs=2", "--trust=deadly") == 1
    shown = capsys.readouterr().out
    assert "k, seed 0: failed: its process was killed by signal 9; was there too little memory?" in shown
    assert "b, seed 0: failed: LookupError: mine" in shown
    assert "in on_train_start" in (workplace / "runs/k/1/b/seed0.log").read_text()
    killed, bug, a = found(workplace / "runs/k/1")["variants"]
    assert killed["test_mean"] == bug["test_mean"] == "nan"
    assert a["test_mean"] > 0


@pytest.mark.slow
def test_a_run_is_to_the_last_bit_that_of_fit_alone_also_beside_others_and_after_them(two):
    words = ["--seed=5", "--model.training.regularization.dropout=0.2"]
    assert compare("two.yaml", *words) == 0
    assert compare("two.yaml", *words, "--out=beside", "--jobs=2") == 0
    assert main(["fit", "-c", "two.yaml", "--variant=tanh", *words, *SMALL, "--test"]) == 0
    folders = [two / path for path in ("runs/two/tanh/1", "runs/two/1/tanh/seed5", "beside/tanh/seed5")]
    alone, *others = (weights(folder / "checkpoints/last.ckpt") for folder in folders)
    assert all(same(alone, other) for other in others)
    results = [Result.read(folder) for folder in folders]
    for one in results[1:]:
        assert (one.scores, one.data, one.findings) == (results[0].scores, results[0].data, results[0].findings)
        assert [p["train/loss"] for p in one.curve] == [p["train/loss"] for p in results[0].curve]


@pytest.mark.slow
def test_runs_that_are_there_are_compared_without_training(workplace, capsys):
    for words in (["--model.activation=tanh"], ["--seed=1"], ["--seed=2"]):
        assert main(["fit", "mlp/wine", *SMALL, *words]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/mlp/wine/1", "runs/mlp/wine/2", "runs/mlp/wine/3"]) == 0
    shown = capsys.readouterr().out
    assert "* the best by validation accuracy." in shown  # none was tested
    assert re.search(r"^differing in +1 +2\nmodel.activation +tanh +relu$", shown, re.MULTILINE)
    folder = workplace / "runs/compare/1"
    tanh, relu = found(folder)["variants"]
    assert (tanh["variant"], tanh["seeds"]) == ("1", [0])
    assert (relu["variant"], relu["seeds"]) == ("2", [1, 2])  # one configuration
    scores = [Result.read(workplace / f"runs/mlp/wine/{n}").scores["val/accuracy"] for n in (2, 3)]
    assert relu["validation_mean"] == pytest.approx(sum(scores) / 2)
    assert [run["name"] for run in page.read(folder / "report.html")] == ["1/seed0", "2/seed1", "2/seed2"]
    assert (folder / "comparison_map.png").is_file()
    assert main(["compare", "runs/mlp/wine", "--out=again"]) == 0
    assert found(workplace / "again")["variants"] == found(folder)["variants"]
    assert main(["compare", "runs/mlp/wine/1", "mlp/wine", "--out=both", *SMALL]) == 0
    assert [v["variant"] for v in found(workplace / "both")["variants"]] == ["1", "mlp/wine"]
    capsys.readouterr()
    for words, answer in (
        (["recipes"], "recipes holds no run: a run's folder has a config.yaml"),
        (["runs/mlp/wine", "--seeds=2"], "runs that are there already are compared as they are"),
    ):
        (workplace / "recipes").mkdir(exist_ok=True)
        assert main(["compare", *words]) == 2
        assert answer in capsys.readouterr().err


def test_a_grid_is_every_combination_and_each_has_a_name(workplace):
    (workplace / "g.yaml").write_text(
        "base: mlp/deep_sigmoid\nvariants:\n  plain: {}\n  fixed: {model.residual: true}\n"
        "grid:\n  model.num_layers: [5, 11]\n  model.training.optimizer.options.betas: [[0.5, 0.7]]\n"
    )
    chosen = recipes.variants(workplace / "g.yaml")
    assert list(chosen) == [
        f"{name},num_layers={depth},betas=0.5_0.7" for name in ("plain", "fixed") for depth in ("05", "11")
    ]
    model = chosen["fixed,num_layers=11,betas=0.5_0.7"].config["model"]
    assert (model["num_layers"], model["residual"]) == (11, True)
    assert model["training"]["optimizer"]["options"]["betas"] == [0.5, 0.7]
    recipe = recipes.load([str(workplace / "g.yaml")], "plain,num_layers=05,betas=0.5_0.7")
    assert recipe.name == "g/plain,num_layers=05,betas=0.5_0.7"
    over = recipes.side_by_side([str(workplace / "g.yaml")], ["model.num_layers=3", "model.activation=tanh,relu"])
    assert next(iter(over)) == "plain,num_layers=3,betas=0.5_0.7,activation=tanh"
    assert len(over) == 4


def test_a_base_may_stand_in_the_comparison(workplace):
    (workplace / "b.yaml").write_text(
        "base:\n  model: {class_path: unvanish.networks.MLP, hidden_sizes: [7]}\n"
        "  data.class_path: unvanish.data.Tabular\n"
        "variants:\n  small: {}\n  large: {model.hidden_sizes: [11]}\n"
    )
    model = {"class_path": "unvanish.networks.MLP", "hidden_sizes": [11]}
    assert recipes.variants(workplace / "b.yaml")["large"].config == {
        "model": model,
        "data": {"class_path": "unvanish.data.Tabular"},
    }


@pytest.mark.slow
def test_recipes_and_comparisons_stand_side_by_side(two):
    assert list(recipes.side_by_side(["mlp/wine"], [])) == ["mlp/wine"]
    assert list(recipes.side_by_side(["mlp/wine"], ["model.activation=tanh"])) == ["activation=tanh"]
    assert list(recipes.side_by_side(["mlp/wine", "two.yaml"], [])) == ["mlp/wine", "two/plain", "two/tanh"]
    clash = recipes.side_by_side(["mlp/wine"], ["model.activation=tanh", "data.activation=3"])
    assert list(clash) == ["model.activation=tanh,data.activation=3"]
    assert compare("mlp/wine", "two.yaml", "--set=model.residual=false") == 0
    names = [variant["variant"] for variant in found(two / "runs/compare/1")["variants"]]
    assert names == ["mlp/wine/residual=false", "two/plain,residual=false", "two/tanh,residual=false"]
    assert (two / "runs/compare/1/two/tanh,residual=false/seed0/config.yaml").is_file()


@pytest.mark.slow
def test_a_lower_error_is_the_better_one_and_a_target_may_never_be_reached(workplace, capsys):
    assert compare("mlp/diabetes", "--set=model.activation=tanh,relu", "--target=1e-3", "--out=here") == 0
    shown = capsys.readouterr().out
    assert "The same in all: to 0.001 never" in shown
    for variant in found(workplace / "here")["variants"]:
        assert variant["target_steps"] == variant["target_seconds"] == "inf"
        (run,) = variant["runs"]
        assert run["validation"] == min(point["val/rmse"] for point in run["curve"])
    highest = max(point["val/rmse"] for point in run["curve"]) + 1
    assert compare("mlp/diabetes", "--set=model.activation=tanh,relu", f"--target={highest}", "--out=here") == 0
    assert found(workplace / "here")["variants"][1]["target_steps"] == run["curve"][0]["step"]


def test_seeds_that_reach_the_target_are_counted_and_numbers_that_are_none_are_said(tmp_path):
    def run(name, seed, steps, **values):
        curve = [{"step": step, "seconds": step / 10, "val/accuracy": step / 100} for step in range(0, steps, 10)]
        scores = {"test/accuracy": 0.5}
        return kept(name, seed, steps=steps, scores=scores, curve=curve, first_over_last_start=1.0, **values)

    runs = [run("a", 0, 60, verdict="healthy"), run("a", 1, 80), run("a", 2, 40, first_over_last_end=math.nan)]
    runs += [run("b", 0, 100, first_over_last_end=2.0, noise_scale=3.0), kept("c", error="no memory")]
    head, first, second, third = Comparison(runs, 0.5, tmp_path).cells()
    column = {name: place for place, name in enumerate(head)}
    assert "to 0.5" in column
    assert first[column["to 0.5"]] == "50 steps, 5.0 s (2 of 3)"
    assert second[column["to 0.5"]] == "50 steps, 5.0 s"
    assert (first[column["first/last, end"]], second[column["first/last, end"]]) == ("nan", "2.0e+00")
    assert (first[column["noise scale"]], second[column["noise scale"]]) == ("", "3")  # it is not always known
    assert "best validation" not in column  # in no row
    assert third[column["verdict"]] == "failed: no memory"


@pytest.mark.slow
def test_an_epoch_has_a_step_for_what_is_left_of_it(workplace):
    assert (
        main(["compare", "mlp/wine", "--data.loading.batch_size=40", "--trainer.accumulate_grad_batches=2", *SMALL])
        == 0
    )
    (run,) = found(workplace / "runs/mlp/wine/1")["variants"][0]["runs"]
    assert run["seconds_per_epoch"] == pytest.approx(run["seconds"] / 2)


def test_a_target_is_reached_by_a_metric_that_float32_has_rounded(tmp_path):
    points = [{"step": 5.0, "seconds": 1.0, "val/accuracy": 0.95 - 1e-4}]
    points.append({"step": 7.0, "seconds": 2.0, "val/accuracy": float(torch.tensor(342 / 360))})
    assert points[1]["val/accuracy"] < 0.95
    assert Comparison([kept("a", curve=points)], 0.95, tmp_path).table.loc["a", "target_steps"] == 7


@pytest.mark.slow
def test_last_weights_are_tested_where_no_checkpoint_is_kept_and_none_where_there_is_no_test_split(workplace, capsys):
    words = ["--set=trainer.enable_checkpointing=true,false", "--out=here", "--trainer.max_epochs=9"]
    assert main(["compare", "mlp/wine", *words, "--model.training.optimizer.learning_rate=0.3"]) == 0
    best, last = ((workplace / f"here/enable_checkpointing={kept}/seed0") for kept in ("true", "false"))
    assert (best / "checkpoints/best.ckpt").is_file()
    assert not (last / "checkpoints").exists()
    assert not math.isnan(found(workplace / "here")["variants"][1]["test_mean"])
    (workplace / "t.txt").write_text("to be or not to be " * 200)
    text = ["--data.path=t.txt", "--data.loading.test_share=0", "--model.hidden_size=7", "--trainer.max_steps=3"]
    assert main(["compare", "recurrent/text", *text, "--out=there"]) == 0
    table = capsys.readouterr().out.rpartition("variant ")[2]
    assert "best validation" in table
    assert "test" not in table.splitlines()[0]
    report = json.loads((workplace / "there/recurrent/text/seed0/gradient_report.json").read_text())
    ((_, norms),) = report["through_time"]["start"].items()
    (run,) = found(workplace / "there")["variants"][0]["runs"]
    early, *_, late = norms.values()
    assert run["early_over_late_start"] == pytest.approx(early / late)
    assert "h_1/h_T, start" in table.splitlines()[0]
    assert width(workplace / "there/comparison.png") == pytest.approx(3 * PANEL, abs=LEGEND)
    assert main(["fit", "-c", "recurrent/text", *text]) == 0
    assert "next: unvanish validate runs" in capsys.readouterr().out
