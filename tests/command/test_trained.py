"""Tables as people have them, from the file to predictions for new rows without it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import unvanish
from unvanish.command.errors import FailedError
from unvanish.command.main import main
from unvanish.command.predictions import write

QUICK = ["--trainer.max_epochs=1", "--no-gradients", "--model.hidden_sizes=[3]"]
ROWS = 120
RANDOM = np.random.default_rng(0)


def passengers():
    """As of a ship: names and tickets that differ, ages that lack, an id."""
    return pd.DataFrame(
        {
            "PassengerId": range(1, ROWS + 1),
            "Survived": RANDOM.integers(0, 2, ROWS),
            "Name": [f"Mr. No {i}, 'the {i}th'" for i in range(ROWS)],
            "Sex": RANDOM.choice(["male", "female"], ROWS),
            "Age": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.integers(1, 70, ROWS)),
            "Ticket": [f"A/{i * 7 % 1000}" for i in range(ROWS)],
            "Cabin": RANDOM.choice([None, "C1", "C2"], ROWS),
        }
    )


def priced():
    rooms = RANDOM.integers(1, 8, ROWS)
    prices = [f"${90_000 * room + 113 * i:,}" for i, room in enumerate(rooms)]
    return pd.DataFrame({"rooms": rooms, "tax": [f"${900 * room:,}" for room in rooms], "price": prices})


def continental():
    size = RANDOM.normal(70, 20, ROWS).round(2)
    return pd.DataFrame(
        {"m2": [f"{s:.2f}".replace(".", ",") for s in size], "miete": [f"{12 * s:.2f}".replace(".", ",") for s in size]}
    )


def dated():
    days = pd.date_range("2020-01-01", periods=ROWS)
    return pd.DataFrame(
        {"day": days.strftime("%Y-%m-%d"), "month": days.month_name(), "sold": RANDOM.normal(10, 2, ROWS).round(3)}
    )


def rare():
    labels = ["yes" if i % 50 == 0 else "no" for i in range(500)]
    return pd.DataFrame({"a": RANDOM.normal(size=500), "b": RANDOM.normal(size=500), "fraud": labels})


def heavy():
    income, age = RANDOM.pareto(1.1, ROWS) * 1e4, RANDOM.integers(18, 90, ROWS)
    return pd.DataFrame({"income": income, "age": age, "y": RANDOM.normal(size=ROWS)})


LEFT_OUT = r"Name +text +0 +120 left out: nearly all distinct"
NUMBER = ["truth", "prediction_"]
CLASS = ["truth", "prediction", "probability_no"]
# The table, its target, options, how many inputs it has, what is said of a column, and columns of the predictions.
FILES = {
    "passengers": (passengers, "Survived", [], 6, LEFT_OUT, ["PassengerId", "truth", "prediction"]),
    "prices": (priced, "price", ["thousands=,"], 2, r"\$ is removed from every number", NUMBER),
    "continental": (continental, "miete", ["delimiter=;", "decimal=,"], 1, r"m2 +number", NUMBER),
    "dates": (dated, "sold", [], 4, r"day +text +0 +120 left out", NUMBER),
    "rare": (rare, "fraud", [], 2, r"fraud' has 2 distinct values", CLASS),
    "heavy": (heavy, "y", [], 2, r"income +number", NUMBER),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_from_fit_to_predictions_without_it(workplace, capsys, name):
    make, target, options, inputs, said, columns = FILES[name]
    table = make()
    table.to_csv("t.csv", index=False, sep=";" if name == "continental" else ",")
    words = ["mlp/csv", "--data.path=t.csv", f"--data.target={target}", *(f"--data.{o}" for o in options)]
    assert main(["fit", *words, *QUICK]) == 0
    shown = capsys.readouterr().out
    assert re.search(said, shown)
    assert f"{len(table)} rows, {inputs} inputs" in shown
    run = workplace / "runs/mlp/csv/1"
    assert main(["test", *words]) == 0
    assert re.search(r"test/\w+ +\d", capsys.readouterr().out)

    assert main(["predict", *words]) == 0
    tested = pd.read_csv(run / "predictions.csv")
    expected = [column + target * column.endswith("_") for column in columns]
    assert [column for column in tested if column in expected] == expected
    rows = tested["row"].tolist()
    assert len(rows) == len(table) // 5
    (workplace / "t.csv").rename("new.csv")
    assert main(["predict", str(run / "config.yaml"), "--data.predict_path=new.csv", "--out=p.csv"]) == 0
    everything = pd.read_csv("p.csv")
    model = unvanish.load(run)
    for found in (everything.iloc[rows], model.predict(table.iloc[rows])):
        for column in [column for column in tested if column.startswith(("prediction", "probability"))]:
            if tested[column].dtype.kind == "f":
                assert found[column].to_numpy() == pytest.approx(tested[column].to_numpy(), rel=1e-5, abs=1e-6)
            else:
                assert found[column].astype(str).tolist() == tested[column].astype(str).tolist()
    if name == "passengers":
        assert everything["PassengerId"].tolist() == table["PassengerId"].tolist()
        assert everything["truth"].tolist() == table["Survived"].tolist()
        assert tested["truth"].tolist() == table["Survived"].iloc[rows].tolist()
    if name == "heavy":
        assert tested["truth"].tolist() == pytest.approx(table["y"].iloc[rows].tolist(), abs=1e-5)
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["unvanish_network"] == "unvanish.networks.mlp.MLP"


def test_arrays_are_in_the_order_of_the_columns_and_what_lacks_is_said(workplace):
    table = heavy()
    table.to_csv("t.csv", index=False)
    assert main(["fit", "mlp/csv", "--data.path=t.csv", "--data.target=y", *QUICK]) == 0
    model = unvanish.load("runs/mlp/csv/1/checkpoints/last.ckpt")
    by_name = model.predict(table[["age", "income"]])["prediction_y"].tolist()
    assert by_name == model.predict(table[["income", "age"]].to_numpy())["prediction_y"].tolist()
    assert by_name == pytest.approx(model.predict(table, batch_size=7)["prediction_y"].tolist(), rel=1e-5)
    with pytest.raises(ValueError, match="no column 'income'"):
        model.predict(table[["age"]])
    with pytest.raises(ValueError, match="an array needs 2 columns: income, age"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="column 'age' must hold numbers; row 1 below the header has 'old'"):
        model.predict({"income": [1.0], "age": ["old"]})
    with pytest.raises(ValueError, match="no checkpoint at nowhere"):
        unvanish.load("nowhere")
    assert repr(model).endswith("last.ckpt, regression: [2] to ['y']")
    model.network.output.bias.data[0] = np.nan
    with pytest.raises(FailedError, match=r"answers NaN or infinity for 3 of 3 rows, the first of them row 0"):
        model.predict(table[:3])


@pytest.mark.slow
def test_images_are_predicted_from_their_files_and_their_pixels(workplace):
    from PIL import Image

    for name, low in (("dark", 0), ("light", 128)):
        folder = workplace / "images" / name
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = RANDOM.integers(low, low + 120, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    options = ["--data.path=images", "--data.image_size=8", "--data.loading.batch_size=4", "--data.cache=memory"]
    assert main(["fit", "cnn/image_folder", *options, "--trainer.max_epochs=1", "--no-gradients"]) == 0
    assert main(["predict", "cnn/image_folder", *options]) == 0
    tested = pd.read_csv("runs/cnn/image_folder/1/predictions.csv")
    assert tested["truth"].tolist() == [Path(row).parent.name for row in tested["row"]]
    model = unvanish.load("runs/cnn/image_folder/1")
    paths = tested["row"].tolist()
    for inputs in (paths, np.stack([np.array(Image.open(path)).transpose(2, 0, 1) for path in paths])):
        found = model.predict(inputs)
        assert found["probability_light"].tolist() == pytest.approx(tested["probability_light"].tolist(), rel=1e-4)
    assert found.index.tolist() == [*range(len(tested))]
    with pytest.raises(ValueError, match="or the paths of images"):
        model.predict(np.zeros((1, 3, 9, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_texts_are_predicted_as_they_are(workplace, tokenizer):
    texts = [f"this is {'good' if i % 2 else 'bad'} and number {i % 7}" for i in range(60)]
    pd.DataFrame({"text": texts, "label": ["up" if i % 2 else "down" for i in range(60)]}).to_csv("t.csv", index=False)
    small = ["--model.embedding_dim=4", "--model.num_heads=2", "--model.num_layers=1", "--data.max_length=12"]
    small += ["--data.text=text", "--data.label=label"]
    options = ["--data.path=t.csv", f"--data.tokenizer={tokenizer}", "--trainer.max_epochs=1", "--no-gradients", *small]
    assert main(["fit", "transformer/text_csv", *options]) == 0
    assert main(["predict", "transformer/text_csv", "--data.path=t.csv"]) == 0
    tested = pd.read_csv("runs/transformer/text_csv/1/predictions.csv")
    found = unvanish.load("runs/transformer/text_csv/1").predict([texts[row] for row in tested["row"]])
    assert found["probability_up"].tolist() == pytest.approx(tested["probability_up"].tolist(), rel=1e-5)
    assert tested["truth"].tolist() == ["up" if row % 2 else "down" for row in tested["row"]]


@pytest.mark.slow
@pytest.mark.parametrize("relative", ["true", "false"])
def test_a_series_goes_on_after_its_last_row(workplace, relative):
    days = pd.date_range("2020-01-01", periods=80).strftime("%Y-%m-%d")
    rows = pd.DataFrame({"day": days, "sold": np.arange(80.0) ** 1.5})
    rows.to_csv("s.csv", index=False)
    options = ["--data.path=s.csv", "--data.targets=[sold]", "--data.window=6", "--data.horizon=2"]
    options.append(f"--data.relative={relative}")
    assert main(["fit", "recurrent/series_csv", *options, "--trainer.max_epochs=1", "--no-gradients"]) == 0
    assert main(["predict", "recurrent/series_csv", *options]) == 0
    expected = pd.read_csv("runs/recurrent/series_csv/1/predictions.csv").drop(columns="row")
    model = unvanish.load("runs/recurrent/series_csv/1")
    for inputs in (rows, rows[["sold"]].to_numpy(), "s.csv"):
        pd.testing.assert_frame_equal(model.predict(inputs), expected, check_dtype=False, rtol=1e-5)


@pytest.mark.slow
def test_test_takes_the_newest_run_of_that_data_and_refuses_another_s_by_its_columns(workplace, capsys):
    a, b = heavy(), heavy().rename(columns={"age": "years"})
    for name, table in (("a", a), ("b", b), ("longer", pd.concat([a, a]))):
        table.to_csv(f"{name}.csv", index=False)
    options = ["mlp/csv", "--data.target=y"]
    for name in ("a", "b"):
        assert main(["fit", *options, f"--data.path={name}.csv", *QUICK]) == 0
    capsys.readouterr()
    (workplace / "a.csv").rename("moved.csv")
    assert main(["test", *options, "--data.path=moved.csv"]) == 0
    assert "runs/mlp/csv/1/checkpoints/best.ckpt" in capsys.readouterr().out
    assert main(["test", *options, "--data.path=longer.csv"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"no run of it was trained on longer.csv: runs/mlp/csv/2, the newest, was on .*b.csv", error)
    assert "whose columns 'years' longer.csv lacks" in error
    assert main(["test", "runs/mlp/csv/1/config.yaml", "--data.path=b.csv"]) == 2
    assert "whose columns 'age' b.csv lacks" in capsys.readouterr().err
    assert main(["test", "runs/mlp/csv/1/config.yaml", "--data.path=longer.csv"]) == 0
    assert "which has other content: rows that it was trained on may be among those" in capsys.readouterr().out


def test_a_cell_that_a_spreadsheet_would_run_is_quoted(tmp_path):
    table = pd.DataFrame({"prediction": ["=1+1", "@x", "+a", "-b", "-1", "fine"], "p": [-1.0, 2, 3, 4, 5, 6]})
    write(table.set_index(pd.Index(["-c", "d", "e", "f", "g", "=h"])), tmp_path / "p.csv")
    found = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert found["prediction"].tolist() == ["'=1+1", "'@x", "'+a", "'-b", "-1", "fine"]
    assert found["row"].tolist() == ["'-c", "d", "e", "f", "g", "'=h"]
    assert found["p"].astype(float).tolist() == [-1, 2, 3, 4, 5, 6]
