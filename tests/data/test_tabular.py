import logging
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from build import build

from unvanish.data import Tabular

ROWS = 53


def table(**columns):
    """A column of numbers, one of texts, and a target of two classes, with columns replaced or added."""
    row = np.arange(ROWS)
    return pd.DataFrame(
        {"size": row * 1.5, "colour": np.array(["red", "blue", "green"])[row % 3], "y": row % 2} | columns
    )


def with_hole(values, *rows, hole=np.nan):
    column = pd.Series(values, dtype=object if hole is None else float)
    column[list(rows)] = hole
    return column


@pytest.fixture
def save(tmp_path):
    def write(frame, name="rows.csv"):
        path = tmp_path / name
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def load(save):
    def read(frame=None, name="rows.csv", **options):
        return build(Tabular, path=save(table() if frame is None else frame, name), target="y", **options)

    return read


def rows_of(data, column=0):
    """Which rows of `table` are in each split, told by its column of numbers."""
    train, validation, test = (split[0][:, column].double().numpy() for split in data.splits[:3])
    distance = np.abs(np.diff(np.sort(np.concatenate([train, validation, test])))).min()
    lowest = min(part.min() for part in (train, validation, test))
    return [np.rint((part - lowest) / distance).astype(int) for part in (train, validation, test)]


@pytest.mark.parametrize(
    ("name", "task", "features", "output_size", "names", "rows"),
    [
        ("breast_cancer", "binary", 30, 1, ["benign", "malignant"], 569),
        ("wine", "multiclass", 13, 3, ["class_0", "class_1", "class_2"], 178),
        ("iris", "multiclass", 4, 3, ["setosa", "versicolor", "virginica"], 150),
        ("diabetes", "regression", 10, 1, None, 442),
    ],
)
def test_bundled_tables(name, task, features, output_size, names, rows):
    data = build(Tabular, name)
    assert (data.task, data.input_shape, data.output_size, data.class_names) == (task, (features,), output_size, names)
    assert sum(len(split[1]) for split in data.splits[:3]) == rows
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, x.dtype) == ((32, features), torch.float32)
    shape, dtype = {
        "binary": ((32,), torch.float32),
        "multiclass": ((32,), torch.int64),
        "regression": ((32, 1), torch.float32),
    }[task]
    assert (y.shape, y.dtype) == (shape, dtype)


def test_malignant_is_the_positive_class():
    positives = sum(split[1].sum().item() for split in build(Tabular, "breast_cancer").splits[:3])
    assert positives == 212


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
def test_kinds_of_file_agree(load, name):
    for split, expected in zip(load(name=name).splits[:3], load().splits[:3], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(split, expected, strict=True))


def test_tab_separated_values(tmp_path, load):
    table().to_csv(tmp_path / "rows.tsv", sep="\t", index=False)
    data = build(Tabular, path=str(tmp_path / "rows.tsv"), target="y")
    assert torch.equal(data.splits.train[0], load().splits.train[0])


def test_splits_are_disjoint_complete_stratified_and_in_file_order(load):
    parts = rows_of(load())
    assert sorted(np.concatenate(parts)) == list(range(ROWS))
    assert [len(part) for part in parts] == [34, 8, 11]
    assert all(abs((part % 2).mean() - 0.5) < 0.06 for part in parts)
    assert all(before < after for part in parts[1:] for before, after in pairwise(part))


@pytest.mark.parametrize(("name", "rows"), [("iris", 150), ("diabetes", 442)])
def test_all_but_the_test_rows_train_where_none_validate(name, rows):
    data = build(Tabular, name, validation_share=0)
    train, validation, test = data.splits[:3]
    assert validation == ()
    assert len(train[1]) + len(test[1]) == rows
    assert data.val_dataloader() == []


def test_split_seed_alone_decides_the_splits(load):
    first, same, other = (rows_of(load(**seeds)) for seeds in ({}, {"seed": 5}, {"split_seed": 5}))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[2], other[2])


@pytest.mark.parametrize(("name", "hole"), [("rows.csv", None), ("rows.parquet", np.nan)])
def test_scaling_and_imputing_use_the_training_rows_alone(load, name, hole):
    train, _, test = rows_of(load())
    size = with_hole(np.arange(ROWS) ** 2.0, train[0], test[0], hole=hole)
    x = load(table(size=size), name).splits
    seen = (train[1:] ** 2.0).astype(float)
    filled = np.append(seen, np.median(seen))
    expected = [(np.median(seen) - filled.mean()) / filled.std(), *((seen - filled.mean()) / filled.std())]
    assert np.allclose(x.train[0][:, 0], expected, atol=1e-6)
    assert x.test[0][0, 0].item() == pytest.approx(expected[0], abs=1e-6)


def test_a_category_that_only_the_test_rows_have_is_all_zeros(load):
    train, _, test = rows_of(load())
    colour = pd.Series(["red"] * ROWS)
    colour[train[:5]] = "blue"
    colour[test[0]] = "violet"
    data = load(table(colour=colour))
    assert data.input_shape == (3,)
    assert data.splits.test[0][:, 1:].tolist() == [[0, 0], *[[0, 1]] * 10]
    assert data.splits.train[0][:6, 1:].tolist() == [*[[1, 0]] * 5, [0, 1]]


def test_booleans_are_categories_a_missing_text_is_one_and_constants_are_harmless(load):
    data = load(table(colour=with_hole(["red"] * ROWS, *range(20), hole=None), on=np.arange(ROWS) % 5 == 0, one=1.0))
    assert data.input_shape == (1 + 1 + 2 + 2,)
    size, one, red, absent, *switch = data.splits.train[0].T
    assert torch.isfinite(size).all()
    assert not one.any()
    assert red.sum() == sum(rows_of(data)[0] >= 20)
    assert torch.equal(red + absent, torch.ones(34))
    assert torch.equal(switch[0] + switch[1], torch.ones(34))


def test_regression_targets_are_standardised_by_the_training_rows(load):
    data = load(table(y=np.arange(ROWS) * 2.5))
    train, _, test = (rows * 2.5 for rows in rows_of(data))
    assert (data.task, data.output_size, data.class_names) == ("regression", 1, None)
    assert data.target_mean.tolist() == pytest.approx([train.mean()])
    assert data.target_std.tolist() == pytest.approx([train.std()])
    units = data.splits.test[1] * data.target_std + data.target_mean
    assert units[:, 0].tolist() == pytest.approx(test.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.arange(ROWS) % 2 * 0.5, "binary"),
        (np.arange(ROWS) % 2 == 0, "binary"),
        (np.array(["a", "b", "c"])[np.arange(ROWS) % 3], "multiclass"),
        (np.arange(ROWS) % 5, "multiclass"),
        (np.arange(ROWS) % 6, "regression"),
        (np.arange(ROWS) % 5 * 1.0, "regression"),
    ],
)
def test_the_guessed_task_is_logged(load, caplog, y, task):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        assert load(table(y=y)).task == task
    assert caplog.messages[0].endswith(f"{len(set(y))} distinct values in 53 rows: {task}")


def test_the_task_can_be_given(load):
    data = load(task="multiclass")
    assert (data.output_size, data.class_names, data.splits.train[1].dtype) == (2, ["0", "1"], torch.int64)


def test_only_training_is_shuffled(load):
    data = load(batch_size=11)
    order = torch.cat([x for x, _ in data.train_dataloader()])
    assert not torch.equal(order, data.splits.train[0])
    assert torch.equal(order.sort(dim=0).values, data.splits.train[0].sort(dim=0).values)
    for loader, split in (
        (data.val_dataloader(), data.splits.validation),
        (data.test_dataloader(), data.splits.test),
        (data.predict_dataloader(), data.splits.test),
    ):
        batches = list(loader)
        assert torch.equal(torch.cat([x for x, _ in batches]), split[0])
        assert torch.equal(torch.cat([y for _, y in batches]), split[1])


def test_new_rows_are_coded_by_the_training_rows(save, load):
    rows = table()[["colour", "size"]].assign(note="ignored").iloc[[7, 3]]
    data = load(predict_path=save(rows, "new.csv"))
    train = rows_of(data)[0] * 1.5
    ((x,),) = data.predict_dataloader()
    expected = [(7 * 1.5 - train.mean()) / train.std(), (3 * 1.5 - train.mean()) / train.std()]
    assert x[:, 0].tolist() == pytest.approx(expected)
    assert x[:, 1:].tolist() == [[1, 0, 0] if c == "blue" else [0, c == "green", c == "red"] for c in rows["colour"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either dataset, or path and target"),
        ({"dataset": "iris", "path": "a.csv", "target": "y"}, "give either dataset, or path and target"),
        ({"path": "a.csv"}, "give either dataset, or path and target, not .*'a.csv', target None"),
        ({"dataset": "iris", "target": "y"}, "give either dataset, or path and target"),
        ({"dataset": "irsi"}, "unknown dataset 'irsi'; did you mean 'iris'"),
        ({"path": "a.xls", "target": "y"}, r"unknown kind of file '.xls'.*\(known: .csv, .tsv, .parquet\)"),
        ({"dataset": "iris", "predict_path": "a.txt"}, "unknown kind of file '.txt'"),
        ({"dataset": "iris", "task": "regresion"}, "unknown task 'regresion'; did you mean 'regression'"),
        ({"dataset": "iris", "missing": "drop"}, "unknown treatment of missing values 'drop'"),
        ({"dataset": "iris", "validation_share": -0.1}, "validation_share must be at least 0 and below 1, not -0.1"),
        ({"dataset": "iris", "test_share": 0.9}, "test_share must be above 0 and below 1 - validation_share, not 0.9"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Tabular, **options)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"y": with_hole(np.arange(ROWS) % 2, 4, 9)},
            {},
            "missing values in the target 'y' .2, the first in row 5 below",
        ),
        ({"y": 1}, {}, "target 'y' has only one value"),
        ({"y": ["a"] * 51 + ["b"] * 2}, {}, "class 'b': 2 rows are too few for 3 splits"),
        ({"y": np.arange(ROWS) % 3}, {"task": "binary"}, "target 'y' has 3 distinct values, a binary task needs 2"),
        ({"y": ["a", "b"] * 26 + ["a"]}, {"task": "regression"}, "target 'y' has values that are not numbers"),
        ({"y": [np.inf, *np.arange(52) / 7]}, {}, "column 'y' holds an infinite value in row 1 below the header"),
        ({"size": with_hole(np.ones(ROWS), 3, hole=np.inf)}, {}, "'size' holds an infinite value in row 4 below"),
        ({"size": with_hole(np.ones(ROWS), 3, hole=-1e308)}, {}, r"'size' holds -1e\+308 in row 4 .* for float32"),
        (
            {"size": with_hole(np.ones(ROWS), 3), "colour": with_hole(["a"] * ROWS, 1, 2, hole=None)},
            {"missing": "refuse"},
            r"missing values in 'size' \(1, the first in row 4\), 'colour' \(2, the first in row 2\)",
        ),
    ],
)
def test_tables_that_are_refused(load, columns, options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ = load(table(**columns), **options).splits
    assert "rows.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*rows.csv: No columns to parse"),
        (b"a,y\n", "rows.csv: no rows"),
        (b"y\n1\n0\n", "rows.csv: no column besides the target 'y'"),
        (b"a,yy\n1,2\n", "rows.csv: no column 'y'; did you mean 'yy'"),
        (
            b"a,y\n1,2,3\n4,5,6\n",
            "cannot read .*rows.csv: 2 of 2 rows have more or fewer fields than the header, .* row 1 below it, with 3",
        ),
        (
            b"a,y\n1,2\n4,5,6\n",
            "cannot read .*rows.csv: 1 of 2 rows have more or fewer .*; the first is row 2 below it, with 3",
        ),
        (
            b"a,y\n\xff\xfe\n",
            "cannot read .*rows.csv: line 2 is not utf-8: invalid start byte, byte 0xff; give its encoding",
        ),
        (b"a,y\n1,2.5\n2,3.5\n", "rows.csv: 2 rows are too few for 3 splits"),
        (b"a,y\n1,2.5\n2,3.5\n3,4.5\n4,6.5\n", "rows.csv: 4 rows are too few; R2 needs two in each split"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        _ = build(Tabular, path=str(tmp_path / "rows.csv"), target="y", task="regression").splits
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no file .*rows.csv$"):
        _ = build(Tabular, path=str(tmp_path / "rows.csv"), target="y").task


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            table().rename(columns={"colour": "color"}),
            "new.csv: no column 'colour'; did you mean 'color'.*rows.csv has",
        ),
        (table(size="large"), "new.csv: column 'size' must hold numbers; row 1 below the header has 'large'"),
        (table(size=np.inf), "new.csv: column 'size' holds an infinite value in row 1 below the header"),
    ],
)
def test_new_rows_that_are_refused(save, load, rows, message):
    with pytest.raises(ValueError, match=message):
        _ = load(predict_path=save(rows, "new.csv")).splits


def test_a_batch_greater_than_the_training_split_is_refused(load):
    with pytest.raises(ValueError, match="batch_size 35 is greater than the training split of 34 rows"):
        load(batch_size=35).train_dataloader()
