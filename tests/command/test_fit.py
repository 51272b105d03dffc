import csv
import json
import re
import warnings

import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unvanish import page
from unvanish.command.main import main

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=2"]


def fit(*words, recipe="mlp/wine"):
    assert main(["fit", "-c", recipe, *SMALL, *words]) == 0


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_s_folder_holds_all_that_is_promised(workplace, capsys):
    fit()
    folder = workplace / "runs/mlp/wine/1"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    (events,) = [name for name in names if name.startswith("events.out.tfevents.")]
    reports = {"gradient_report.json", "gradient_report.png", "report.html", "scores.json", "val_confusion_matrix.png"}
    kept = {"config.yaml", "metrics.csv", "hparams.yaml", "result.json", *reports}
    assert names == {*kept, ".unvanish-run", "checkpoints/best.ckpt", "checkpoints/last.ckpt", events}
    with (folder / "metrics.csv").open() as file:
        columns = set(csv.DictReader(file).fieldnames)
    assert columns >= {"epoch", "step", "train/loss", "val/loss", "val/accuracy"}
    assert json.loads((folder / "gradient_report.json").read_text())["layers"][0]["name"] == "hidden.0.linear"
    (shown,) = page.read(folder / "report.html")
    assert (shown["name"], shown["layers"], shown["verdict"]) == ("wine/1", ["hidden.0", "output"], "healthy")
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["hidden_sizes"] == [7]
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["recipe"] == "mlp/wine"
    found = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "val/accuracy", "gradient_norm/output", "delta_log10/output"} <= set(found.Tags()["scalars"])
    shown = capsys.readouterr().out
    assert "tensorboard --host localhost --logdir runs" in shown
    assert re.search(r"^ +2/2  +[\d.]+  +[\d.]+  +0\.\d+[* ]  +0\.003  +\S+e[+-]\d\d  +\S+s$", shown, re.MULTILINE)


def test_hparams_holds_a_short_flat_row_with_real_metrics(workplace):
    fit()
    events = EventAccumulator(str(workplace / "runs/mlp/wine/1")).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for name in (b"activation", b"initialization", b"normalization", b"residual", b"learning_rate", b"seed"):
        assert name in content
    scores = [(event.step, event.value) for event in events.Scalars("Overview/score")]
    accuracies = [event.value for event in events.Scalars("val/accuracy")]
    assert [score for _, score in scores] == accuracies
    assert events.Scalars("hparams/best_score")[-1].value == max(accuracies)
    assert events.Tags()["scalars"].count("hparams/first_over_last_log10") == 1
    assert "hp_metric" not in events.Tags()["scalars"]


@pytest.mark.slow
def test_runs_are_numbered_and_the_same_seed_gives_the_same_weights(workplace):
    for words in ([], [], ["--seed=1"]):
        fit(*words)
    first, second, other = (weights(workplace / f"runs/mlp/wine/{n}/checkpoints/last.ckpt") for n in (1, 2, 3))
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.slow
def test_the_gradients_are_recorded_without_changing_the_run(workplace):
    fit("--no-gradients", "--model.training.regularization.dropout=0.5")
    fit("--model.training.regularization.dropout=0.5")
    bare, recorded = workplace / "runs/mlp/wine/1", workplace / "runs/mlp/wine/2"
    assert same(weights(bare / "checkpoints/last.ckpt"), weights(recorded / "checkpoints/last.ckpt"))
    assert not (bare / "gradient_report.json").exists()


@pytest.mark.slow
def test_a_run_s_configuration_repeats_it(workplace):
    fit("--seed=3", "--model.training.schedule.name=cosine")
    again = workplace / "again"
    assert main(["fit", "-c", "runs/mlp/wine/1/config.yaml", f"--runs={again}"]) == 0
    (repeated,) = again.rglob("last.ckpt")
    assert same(weights(workplace / "runs/mlp/wine/1/checkpoints/last.ckpt"), weights(repeated))


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "ties"), [(0.3, False), (0.1, True)])
def test_the_best_checkpoint_is_the_latest_best_epoch_s_and_the_last_is_the_last_s(workplace, learning_rate, ties):
    fit("--trainer.max_epochs=6", f"--model.training.optimizer.learning_rate={learning_rate}")
    folder = workplace / "runs/mlp/wine/1"
    accuracy = pd.read_csv(folder / "metrics.csv").dropna(subset="val/accuracy")
    assert ((accuracy["val/accuracy"] == accuracy["val/accuracy"].max()).sum() > 1) == ties
    best, last = (torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert best["epoch"] == accuracy.loc[accuracy["val/accuracy"].iloc[::-1].idxmax(), "epoch"]
    assert last["epoch"] == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(workplace):
    options = ["--model.training.schedule.name=cosine", "--model.training.regularization.l1=1e-4"]
    fit(*options, "--trainer.max_epochs=3")
    steps = {"dirpath": "steps", "filename": "{step}", "every_n_train_steps": 1, "save_top_k": -1}
    checkpoints = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": steps}
    fit(*options, "--trainer.max_epochs=3", f"--trainer.callbacks={json.dumps([checkpoints])}")
    # 8 steps an epoch: the tenth is in the middle of the second.
    fit(*options, "--trainer.max_epochs=3", "--ckpt_path=steps/step=10.ckpt")
    whole, resumed = (weights(workplace / f"runs/mlp/wine/{n}/checkpoints/last.ckpt") for n in (1, 3))
    assert same(whole, resumed)


@pytest.mark.slow
def test_test_and_validate_take_the_best_checkpoint_of_the_newest_run(workplace, capsys):
    fit()
    fit("--seed=1")
    capsys.readouterr()
    for words in (["-c", "runs/mlp/wine/2/config.yaml"], ["-c", "mlp/wine", *SMALL]):
        for verb, stage in (("test", "test"), ("validate", "val")):
            assert main([verb, *words]) == 0
            shown = capsys.readouterr().out
            assert "runs/mlp/wine/2/checkpoints/best.ckpt:" in shown
            assert f"{stage}/accuracy" in shown


@pytest.mark.slow
def test_a_checkpoint_of_other_arguments_is_refused_and_a_run_s_own_arguments_are_used(workplace, capsys):
    options = ["--trainer.max_epochs=4", "--model.activation=relu", "--model.residual=true", "--seed=1"]
    assert main(["fit", "-c", "mlp/deep_sigmoid", *options]) == 0
    checkpoint = "runs/mlp/deep_sigmoid/1/checkpoints/best.ckpt"
    capsys.readouterr()
    assert main(["test", "-c", "mlp/deep_sigmoid", f"--ckpt_path={checkpoint}"]) == 2
    assert "of another architecture: activation is relu there and sigmoid here" in capsys.readouterr().err
    shown = []
    for words in (["mlp/deep_sigmoid"], ["runs/mlp/deep_sigmoid/1/config.yaml"]):
        assert main(["test", "-c", *words]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert float(re.search(r"test/accuracy +([\d.]+)", shown[0])[1]) > 0.5


@pytest.mark.slow
def test_without_validation_the_last_checkpoint_is_used(workplace, capsys):
    fit("--trainer.limit_val_batches=0")
    assert main(["test", "-c", "mlp/wine"]) == 0
    assert re.search(r"checkpoints/last.ckpt:\n.*\ntest/loss ", capsys.readouterr().out)


@pytest.mark.slow
def test_without_a_validation_split_the_last_weights_are_tested_and_validate_is_refused(workplace, capsys):
    fit("--data.loading.validation_share=0", "--trainer.max_epochs=2")
    assert [path.name for path in (workplace / "runs/mlp/wine/1/checkpoints").iterdir()] == ["last.ckpt"]
    assert main(["test", "-c", "mlp/wine"]) == 0
    assert re.search(r"checkpoints/last.ckpt:\n.*\ntest/loss ", capsys.readouterr().out)
    assert main(["validate", "-c", "mlp/wine"]) == 2
    assert capsys.readouterr().err == "unvanish: the data has no validation split\n"


def test_other_data_modules_need_not_validate_or_test(workplace, monkeypatch):
    (workplace / "bare.py").write_text(
        "import lightning, torch\nfrom unvanish.data import BatchLoader\nclass Data(lightning.LightningDataModule):\n"
        "    task, input_shape, output_size = 'binary', (3,), 1\n"
        "    def train_dataloader(self):\n        return BatchLoader((torch.rand(5, 3), torch.ones(5)), 5)\n"
    )
    (workplace / "bare.yaml").write_text(
        "model: {class_path: unvanish.MLP, hidden_sizes: 3}\ndata: {class_path: bare.Data}\ntrainer: {max_epochs: 2}"
    )
    monkeypatch.syspath_prepend(workplace)
    with pytest.warns(UserWarning, match="have no `val_dataloader`"):
        assert main(["fit", "-c", "bare.yaml", "--trust=bare"]) == 0
    assert [path.name for path in (workplace / "runs/bare/1/checkpoints").iterdir()] == ["last.ckpt"]


def test_the_last_checkpoint_is_the_last_epoch_s_also_where_none_was_validated(workplace):
    fit("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    assert torch.load("runs/mlp/wine/1/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2


def test_a_run_that_ends_before_it_validates_keeps_its_last_checkpoint(workplace):
    with warnings.catch_warnings(record=True) as warned:
        fit("--trainer.max_steps=1")
    assert "monitored" not in " ".join(str(one.message) for one in warned)
    assert [path.name for path in (workplace / "runs/mlp/wine/1/checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_predictions_are_written_with_probabilities_that_agree_with_the_metrics(workplace, capsys):
    fit("--trainer.max_epochs=10", recipe="mlp/breast_cancer")
    config = "runs/mlp/breast_cancer/1/config.yaml"
    assert main(["predict", "-c", config]) == 0
    table = pd.read_csv("runs/mlp/breast_cancer/1/predictions.csv")
    assert list(table) == ["row", "truth", "prediction", "probability_benign", "probability_malignant"]
    assert table.filter(like="probability").sum(axis=1).tolist() == pytest.approx([1] * len(table))
    assert ((table["probability_malignant"] > 0.5) == (table["prediction"] == "malignant")).all()
    assert main(["test", "-c", config]) == 0
    shown = capsys.readouterr().out
    from unvanish import Tabular

    data = Tabular("breast_cancer")
    truth = data.splits.test[1].numpy()
    from sklearn.datasets import load_breast_cancer

    assert (load_breast_cancer().target[table["row"]] == 1 - truth).all()  # its 1 is benign, and m follows b
    accuracy = ((table["prediction"] == "malignant") == truth).mean()
    assert re.search(rf"test/accuracy +{accuracy:.4f} ", shown)


@pytest.mark.slow
def test_a_csv_is_trained_on_and_new_rows_are_predicted_in_the_target_s_units(workplace):
    rows = [f"{x},{'ab'[x % 2]},{1000 + 10 * x}" for x in range(120)]
    (workplace / "table.csv").write_text("\n".join(["x,kind,price", *rows]))
    (workplace / "new.csv").write_text("kind,x\na,20\nb,61\nc,90\n")
    options = ["--data.path=table.csv", "--data.target=price"]
    fit(*options, "--trainer.max_epochs=60", "--model.training.optimizer.learning_rate=1e-2", recipe="mlp/csv")
    config = "runs/mlp/csv/1/config.yaml"
    assert main(["predict", "-c", config, "--data.predict_path=new.csv", "--out=there/p.csv"]) == 0
    predicted = pd.read_csv("there/p.csv")["prediction_price"]
    assert predicted.tolist() == pytest.approx([1200, 1610, 1900], abs=100)


def test_a_diverged_run_says_nan(workplace, capsys):
    sgd = ["--model.training.optimizer.name=sgd", "--model.training.optimizer.learning_rate=1e20"]
    fit(*sgd, "--on-nonfinite=ignore")
    assert json.loads((workplace / "runs/mlp/wine/1/gradient_report.json").read_text())["verdict"] == "nan"
    rows = csv.DictReader((workplace / "runs/mlp/wine/1/metrics.csv").read_text().splitlines())
    assert {row["val/loss"] for row in rows if row["val/loss"]} == {"nan"}
    said = r"^gradients after \d+ steps: nan: .+ (is nan|finite is that of )"
    assert re.search(said, capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_the_next_step_is_one_that_the_data_allows(workplace, capsys):
    (workplace / "t.txt").write_text("to be or not to be " * 200)
    words = ["fit", "-c", "recurrent/text", "--data.path=t.txt", "--model.hidden_size=7", "--trainer.max_steps=3"]
    for shares, verb in (
        ([], "test"),
        (["--data.loading.test_share=0"], "validate"),
        (["--data.loading.test_share=0", "--data.loading.validation_share=0"], None),
    ):
        assert main([*words, *shares]) == 0
        shown = capsys.readouterr().out
        assert ("next: tensorboard" if verb is None else f"next: unvanish {verb} runs/recurrent/text/") in shown
