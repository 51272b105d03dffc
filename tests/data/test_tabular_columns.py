"""Which columns of a table become features, and what is said of it."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from unvanish.data import Tabular
from unvanish.data.summary import ColumnNote, column_table

ROWS = 60


def table(**columns):
    row = np.arange(ROWS)
    return pd.DataFrame(
        {
            "nr": row + 1,
            "name": [f"Ann {i}" for i in row],
            "age": np.where(row % 7 == 2, np.nan, row * 1.5),
            "city": np.array(["Rome", "Bonn", "Oslo"])[row % 3],
            "y": np.array(["no", "yes"])[row % 2],
        }
        | columns
    )


@pytest.fixture
def load(tmp_path):
    def read(frame=None, **options):
        path = tmp_path / f"rows{len(list(tmp_path.iterdir()))}.csv"
        (table() if frame is None else frame).to_csv(path, index=False)
        return Tabular(path=str(path), **{"target": "y"} | options)

    return read


def test_the_table_of_columns_is_logged_and_kept(load, caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        data = load()
        assert data.input_shape == (4,)
    assert caplog.messages[-1] == data.summary
    title, *lines = data.summary.splitlines()
    assert title.endswith("rows0.csv: 60 rows, 4 inputs, binary")
    assert lines == [
        "column kind   missing distinct becomes",
        "nr     number       0       60 left out: an id, by its name",
        "name   text         0       60 left out: nearly all distinct",
        "age    number       9       51 scaled; filled, first row 3",
        "city   text         0        3 one-hot, 3",
        "y      text         0        2 target",
    ]


def test_a_wide_table_is_abbreviated():
    notes = [ColumnNote(f"a long name of a column {i}", pd.Series([1.0, 2.0]), "scaled") for i in range(100)]
    notes[70] = ColumnNote("place", pd.Series(["a", "b"]), "left out: nearly all distinct and then some more words")
    lines = column_table("title", notes).splitlines()
    assert len(lines) == 1 + 1 + 5 + 1
    assert lines[-2].startswith("place")
    assert lines[-1] == "and 95 more: 95 scaled"
    assert max(map(len, lines)) <= 80


def test_columns_can_be_asked_for_and_ignored(load):
    plain = load()
    assert torch.equal(load(columns=["age", "city"]).splits.train[0], plain.splits.train[0])
    assert torch.equal(load(ignore=["nr", "name"]).splits.train[0], plain.splits.train[0])
    assert load(columns=["age", "nr"]).input_shape == (2,)
    names = load(columns=["name"])
    assert names.input_shape == (len(names.splits.train[0]),)
    assert (names.splits.train[0].sum(dim=1) == 1).all()


def test_numbers_can_be_categories_as_they_are_written(load, tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("code,x,y\n" + "".join(f"{'01' if i % 3 else '1'},{i * 0.5},{i % 2}\n" for i in range(ROWS)))
    assert Tabular(path=str(path), target="y").input_shape == (2,)
    assert Tabular(path=str(path), target="y", categories=["code"]).input_shape == (3,)


def test_several_targets_are_a_regression(load):
    row = np.arange(ROWS)
    data = load(table(y=row**1.5, z=np.sin(row)), target=["z", "y"])
    assert (data.task, data.output_size, data.target_names) == ("regression", 2, ["z", "y"])
    train, _, test = data.splits[:3]
    units = torch.cat([train[1], data.splits.validation[1], test[1]]) * data.target_std + data.target_mean
    assert sorted(units[:, 1].tolist()) == pytest.approx(sorted(row**1.5), rel=1e-4, abs=1e-3)
    assert torch.allclose(train[1].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(train[1].std(0, correction=0), torch.ones(2), atol=1e-5)
    assert units[:, 0].tolist() == pytest.approx(torch.sin(units[:, 1].double().pow(2 / 3).round()).tolist(), abs=1e-4)


def test_the_last_feature_stays_though_it_counts_the_rows(load):
    assert load(table()[["nr", "y"]]).input_shape == (1,)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"ignore": ["agee"]}, "no column 'agee'; did you mean 'age'"),
        ({}, {"columns": ["cty"]}, "no column 'cty'; did you mean 'city'"),
        ({}, {"categories": ["nrs"]}, "no column 'nrs'; did you mean 'nr'"),
        ({}, {"columns": ["age"], "ignore": ["age"]}, "column 'age' is both ignored and asked for"),
        ({}, {"ignore": ["y"]}, "column 'y' is both ignored and asked for"),
        ({}, {"columns": ["y", "age"]}, "column 'y' is both a target and a feature"),
        ({}, {"target": ["y", "nr"], "task": "binary"}, "a binary task has one target, not 2"),
        ({}, {"target": ["y", "nr"]}, "target 'y' has values that are not numbers, which regression needs"),
        ({"label": table()["y"]}, {}, r"column 'label' repeats the target; ignore=\[label\] leaves it out"),
        ({"y": ["no", "yes", "Yes"] * 20}, {}, "target 'y' has both 'yes' and 'Yes', the latter in row 3 below"),
        (
            {"y": ["no", "yes", "?"] * 20},
            {"na_values": ["?"]},
            "missing values in the target 'y' .20, the first in row 3 below",
        ),
        ({}, {"ignore": ["age", "city"], "target": "y", "columns": None}, None),
    ],
)
def test_tables_that_are_refused(load, columns, options, message):
    data = load(table(**columns), **options)
    if message is None:  # of nr and name, the number stays
        assert data.input_shape == (1,)
        return
    with pytest.raises(ValueError, match=message) as refusal:
        _ = data.splits
    assert "rows0.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_feature_but_names(load):
    with pytest.raises(
        ValueError, match=r"no feature is left: 'name' \(nearly all distinct\); " r"columns=\[...\] includes"
    ):
        _ = load(table()[["name", "y"]]).splits


def test_a_bound_on_categories(load, monkeypatch):
    monkeypatch.setattr("unvanish.data.features.MOST_CATEGORIES", 50)
    with pytest.raises(
        ValueError, match=r"'name' has 60 distinct texts, and at most 50 can be " r"one-hot encoded; ignore=\[name\] "
    ):
        _ = load(columns=["name"]).splits
    monkeypatch.setattr("unvanish.data.features._MOST_CELLS", 100)
    with pytest.raises(ValueError, match=r"one-hot encoding would take 1.8e\+02 numbers for 60 rows"):
        _ = load().splits


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"code": np.arange(ROWS) % 2 + 5},
            "column 'code' determines the target exactly; is it known at prediction time?",
        ),
        ({"city": ["Rome", "rome", "Oslo"] * 20}, "column 'city' has both 'Rome' and 'rome', the latter in row 2"),
        ({"age": [1e9, *np.linspace(0, 1, 59)]}, "column 'age' has 1e+09 in row 1 below the header, next to which"),
    ],
)
def test_what_is_strange_is_said(load, caplog, columns, message):
    assert load(table(**columns)).input_shape
    assert any(message in line for line in caplog.messages)


def test_rows_that_are_there_twice_are_counted(load):
    data = load(pd.concat([table(), table().iloc[:7]]))
    assert data.summary.splitlines()[0].endswith("; 7 rows repeat another, the first row 61")


def test_new_rows_that_differ_from_those_of_training(load, tmp_path, caplog):
    new = table()[["age", "city"]].iloc[:5].assign(city=["Rome", "Paris", "Bonn", "Lima", "Oslo"])
    new.loc[2, "age"] = 1e7
    new.to_csv(tmp_path / "new.csv", index=False)
    data = load(predict_path=str(tmp_path / "new.csv"))
    (x,) = data.splits.predict
    assert x[:, 1:].sum(dim=1).tolist() == [1, 0, 1, 0, 1]
    text = "\n".join(caplog.messages)
    assert "new.csv: column 'city' has 2 values that are not in the training rows" in text
    assert "the first 'Paris' in row 2 below the header" in text
    assert "new.csv: column 'age' has 1e+07 in row 3 below the header, 4e+05 standard deviations from" in text
    new.loc[2, "age"] = 1e30
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(
        ValueError, match=r"new.csv: column 'age' has 1e\+30 in row 3 below the header, 4e\+28 standard"
    ):
        _ = load(predict_path=str(tmp_path / "new.csv")).splits


def test_categories_that_look_like_numbers_in_new_rows(load, tmp_path):
    """3+ is not in the new file, so that its column holds numbers alone, some missing."""
    rooms = np.array(["1", "2", "3+", "four", "five+"])[np.arange(ROWS) % 5]
    (tmp_path / "new.csv").write_text("rooms\n1\n2\n" + "NA\n")
    data = load(pd.DataFrame({"rooms": rooms, "y": table()["y"]}), predict_path=str(tmp_path / "new.csv"))
    assert data.splits.predict[0].tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
