"""What is changed in a user's data is printed and kept; classes that are not the run's are refused."""

import json
from pathlib import Path

import pytest

from unvanish.command.main import main

ROWS = [f"{i * 0.37 % 1:.3f},{'rome' if i % 3 else 'oslo'},{'yes' if i % 2 else 'no'}" for i in range(60)]


def write(name, rows):
    Path(name).write_text("\n".join(["x,city,y", *rows]) + "\n")


@pytest.mark.slow
def test_data_that_mean_something_else_are_refused_and_what_is_filled_is_said(workplace, capsys):
    write("a.csv", ["," + ROWS[0].partition(",")[2], *ROWS[1:]])
    write("classes.csv", [row.replace("yes", "si") for row in ROWS])
    write("cities.csv", [row.replace("oslo", "bern") for row in ROWS])
    write("larger.csv", [f"7{row}" for row in ROWS])
    write("new.csv", [ROWS[1], "," + ROWS[2].partition(",")[2]])
    fit = ["fit", "-c", "mlp/csv", "--data.path=a.csv", "--data.target=y", "--trainer.max_epochs=1", "--no-gradients"]
    assert main(fit) == 0
    said = json.loads(Path("runs/mlp/csv/1/data.json").read_text())["said"]
    assert any(line.split() == ["x", "number", "1", "59", "scaled;", "filled,", "first", "row", "1"] for line in said)
    assert "\n".join(said) in capsys.readouterr().out
    run = "runs/mlp/csv/1/config.yaml"
    for name, expected in (
        ("classes", "was trained on other data: class_names is ['no', 'yes'] there and ['no', 'si'] here"),
        (
            "cities",
            "other data: the categories of column 'city' are ['oslo', 'rome'] there and ['bern', 'rome'] here",
        ),
    ):
        assert main(["test", run, f"--data.path={name}.csv"]) == 2
        answer = capsys.readouterr().err
        assert expected in answer
        assert answer.count("\n") == 1
    assert main(["test", run, "--data.path=larger.csv"]) == 0
    assert "numbers are scaled by the rows of this file, not by those that" in capsys.readouterr().out
    assert main(["predict", run, "--data.predict_path=new.csv"]) == 0
    assert "new.csv: column 'x' has 1 missing values, which are taken as 0." in capsys.readouterr().out
