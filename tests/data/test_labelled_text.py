import csv
import logging
from pydoc_data.topics import topics
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from build import build

from unvanish.data.labelled_text import LabelledText

ROWS = 53
WORDS = topics["lambda"].split()
NUMBERS = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def texts(rows=ROWS):
    """Row 37 reads 'three seven and' and seven words of CPython's help."""
    return [
        " ".join([*(NUMBERS[int(digit)] for digit in f"{row:02}"), "and", *WORDS[row : row + 7]]) for row in range(rows)
    ]


def table(**columns):
    return pd.DataFrame({"text": texts(), "label": np.array(["ham", "spam"])[np.arange(ROWS) % 2]} | columns)


def three():
    return table(label=np.array(["red", "blue", "green"])[np.arange(ROWS) % 3])


@pytest.fixture
def save(tmp_path):
    def write(content, name="rows.csv", named=True):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            form = {"sep": "\t", "quoting": csv.QUOTE_NONE} if name.endswith("tsv") else {}
            content.to_csv(path, index=False, header=named, **form)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def load(save):
    def read(content=None, name="rows.csv", named=True, **options):
        options = {"max_length": 11, "batch_size": 7} | options
        return build(LabelledText, save(table() if content is None else content, name, named), **options)

    return read


def rows_of(data):
    """Which rows of `table` are in each split, told by their first two words; needs a tokenizer that knows these."""
    found = []
    for x, _ in data.splits[:3]:
        words = [data.tokenizer.decode(row.tolist()).split()[:2] for row in x]
        found.append(np.array([10 * NUMBERS.index(tens) + NUMBERS.index(ones) for tens, ones in words]))
    return found


def test_all_but_the_test_rows_train_where_none_validate(load):
    data = load(validation_share=0)
    train, validation, test = data.splits[:3]
    assert validation == ()
    assert len(train[1]) + len(test[1]) == ROWS
    assert data.val_dataloader() == []


def same(data, other):
    pairs = zip(data.splits[:3], other.splits[:3], strict=True)
    return all(torch.equal(a, b) for split, twin in pairs for a, b in zip(split, twin, strict=True))


def test_two_labels_are_a_binary_task(load):
    data = load()
    assert (data.task, data.output_size, data.class_names) == ("binary", 1, ["ham", "spam"])
    assert (data.input_shape, data.padding_index) == ((11,), 0)
    assert data.vocabulary_size == data.tokenizer.vocabulary_size
    for (x, y), rows in zip(data.splits[:3], rows_of(data), strict=True):
        assert (x.dtype, y.dtype) == (torch.int64, torch.float32)
        assert y.tolist() == (rows % 2).tolist()
    assert data.splits.rows == rows_of(data)[2].tolist()


def test_more_labels_are_a_multiclass_task(load):
    data = load(three(), split_seed=1)  # with 0 the training rows say "seven" once, and so do not know it
    assert (data.task, data.output_size, data.class_names) == ("multiclass", 3, ["blue", "green", "red"])
    for (_, y), rows in zip(data.splits[:3], rows_of(data), strict=True):
        assert y.dtype == torch.int64
        assert y.tolist() == [[2, 0, 1][row % 3] for row in rows]


def test_labels_that_are_numbers_come_in_the_order_of_numbers(load):
    data = load(table(label=np.array([10, 9, -1])[np.arange(ROWS) % 3]))
    assert data.class_names == ["-1", "9", "10"]


def test_splits_are_disjoint_complete_stratified_and_in_file_order(load):
    data = load()
    parts = rows_of(data)
    assert sorted(np.concatenate(parts)) == list(range(ROWS))
    assert [len(part) for part in parts] == [37, 5, 11]
    assert all(abs((part % 2).mean() - 0.5) < 0.11 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts[1:])
    assert not same(data, load(split_seed=5))
    assert same(data, load(seed=5))


def test_x_is_the_words_of_the_text_then_padding(load):
    data = load(table(text=[f"Odd, {text}" if row % 2 else text for row, text in enumerate(texts())]), max_length=17)
    x, y = data.splits.train
    for row, odd in zip(x, y, strict=True):
        length = int((row != 0).sum())
        assert not row[length:].any()
        assert (data.tokenizer.decode(row.tolist()).split()[:2] == ["odd", ","]) == bool(odd)
    assert (x == 0).any()


@pytest.mark.parametrize(("tokenizer", "vocabulary"), [("word", 10_000), ("character", 10_000), ("bpe", 300)])
def test_the_vocabulary_is_learnt_from_the_training_rows_alone(load, tokenizer, vocabulary):
    options = {"tokenizer": tokenizer, "vocabulary": vocabulary, "max_length": 19}
    train, validation, test = rows_of(load())
    strange = texts()
    for row in (*validation, *test):
        strange[row] = "ЖЖЖ ЖЖЖ"
    data = load(table(text=strange), **options)
    assert 0 not in data.splits.train[0][:, 0]
    x, _ = data.splits.test
    if tokenizer == "bpe":  # bytes, two a letter and none of them merged
        assert (x[:, :13] > 1).all()
        assert data.tokenizer.decode(x[0].tolist()) == "ЖЖЖ ЖЖЖ"
    else:
        space = data.tokenizer.encode(" ")
        expected = [1, 1] if tokenizer == "word" else [1, 1, 1, *space, 1, 1, 1]
        assert x[:, : len(expected)].tolist() == [expected] * len(test)
        assert not x[:, len(expected) :].any()
    assert len(train) == 37


def test_longer_texts_are_cut_at_the_end_and_counted(load, caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        x = load(table(text=["a b c d e"] * 10 + ["a b c"] * 43), max_length=4, label="label").splits.train[0]
    assert caplog.messages[-1].endswith("rows.csv: 10 of 53 texts are cut to max_length 4")
    assert sorted(set(map(tuple, x.tolist()))) == [(2, 3, 4, 0), (2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("columns", "named", "options", "message"),
    [
        (["text", "label"], True, {}, "text is column 0, label is column 1, the first row is a header"),
        (["label", "text"], True, {}, "text is column 1, label is column 0, the first row is a header"),
        (["label", "text"], False, {}, "text is column 1, label is column 0, the first row is no header"),
        (["label", "text"], False, {"label": 0}, "text is column 1, label is column 0, the first row is no header"),
        (["label", "text"], True, {"text": "text"}, "text is column 1, label is column 0, the first row is a header"),
        (["label", "text"], True, {"text": 1, "label": 0, "header": True}, None),
        (["note", "label", "text"], True, {"text": "text", "label": "label"}, None),
        (["note", "label", "text"], False, {"text": 2, "label": 1, "header": False}, None),
        (["note", "label", "text"], False, {"text": 2, "label": 1}, "label is column 1, the first row is no header"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_columns_are_found_or_given_and_what_was_guessed_is_logged(
    load, caplog, columns, named, options, message, name
):
    frame = table(note="x")[columns]
    with caplog.at_level(logging.INFO, "unvanish.data"):
        data = load(frame, name, named, **options)
        assert same(data, build(LabelledText, data.path, max_length=11, **options))
    assert sorted(np.concatenate(rows_of(data))) == list(range(ROWS))
    assert data.class_names == ["ham", "spam"]
    assert all(y.tolist() == (rows % 2).tolist() for (_, y), rows in zip(data.splits[:3], rows_of(data), strict=True))
    guesses = [line for line in caplog.messages if ": text is column" in line]
    assert guesses[0].endswith(message) if message else not guesses


def test_words_that_pandas_takes_for_missing_values_are_texts_and_labels(load):
    data = load(table(label=np.array(["NA", "null"])[np.arange(ROWS) % 2], text=["None", *texts()[1:]]))
    assert data.class_names == ["NA", "null"]
    assert sum(len(y) for _, y in data.splits[:3]) == ROWS


def test_commas_and_lines_within_quotation_marks_belong_to_the_text(load):
    data = load(table(text=[f'{text}, "so"\nhe said' for text in texts()]), max_length=29)
    assert sorted(np.concatenate(rows_of(data))) == list(range(ROWS))


def test_quotation_marks_in_tsv_are_characters(load):
    rows = [f"{label}\t{'' if row % 5 else chr(34)}{text}" for row, (text, label) in enumerate(table().to_numpy())]
    data = load("\n".join(rows), "rows.tsv", tokenizer="character", max_length=97)
    found = [data.tokenizer.decode(row.tolist()) for x, _ in data.splits[:3] for row in x]
    assert sum(text.startswith('"') for text in found) == 11


def test_only_training_is_shuffled(load):
    data = load()
    x, _ = (torch.cat(parts) for parts in zip(*data.train_dataloader(), strict=True))
    assert not torch.equal(x, data.splits.train[0])
    assert sorted(x.tolist()) == sorted(data.splits.train[0].tolist())
    for loader, split in (
        (data.val_dataloader(), data.splits.validation),
        (data.test_dataloader(), data.splits.test),
        (data.predict_dataloader(), data.splits.test),
    ):
        batches = list(loader)
        assert torch.equal(torch.cat([x for x, _ in batches]), split[0])
        assert torch.equal(torch.cat([y for _, y in batches]), split[1])


def test_an_own_test_file_stays_whole_and_in_its_order(load, save):
    own = table().iloc[[7, 3, 40, 12]][["label", "text"]]
    data = load(test_path=save(own, "test.csv"))
    train, validation, test = rows_of(data)
    assert test.tolist() == [7, 3, 40, 12]
    assert data.splits.test[1].tolist() == [1, 1, 0, 0]
    assert sorted([*train, *validation]) == list(range(ROWS))
    assert len(validation) == 5


@pytest.mark.parametrize("named", [True, False])
def test_new_texts_need_no_labels(load, save, named):
    rows = table().iloc[[7, 3]]
    alone = save(rows[["text"]], "alone.csv", named)
    whole = save(rows, "whole.csv", named)
    for path in (alone, whole):
        data = load(named=named, predict_path=path)
        ((x,),) = data.predict_dataloader()
        assert x.tolist() == [data.tokenizer.encode(text)[:11] for text in rows["text"]]


def test_a_new_row_without_a_label_is_fine(load, save):
    data = load(predict_path=save("text,label\none two,\n", "new.csv"))
    assert data.splits.predict[0].tolist() == [[*data.tokenizer.encode("one two"), *[0] * 9]]


def test_device_resident_data_moves_to_the_device_of_the_trainer(load):
    data = load(device_resident=True)
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=0, world_size=1, overfit_batches=0
    )
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert {tensor.device.type for tensor in next(iter(loader))} == {"meta"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a.txt"}, r"unknown kind of file '.txt'.*\(known: .csv, .tsv\)"),
        ({"predict_path": "a.parquet"}, "unknown kind of file '.parquet'"),
        ({"tokenizer": "words"}, "unknown tokenizer 'words'; did you mean 'word'"),
        ({"vocabulary": 2}, "vocabulary is 2; it must be at least 3"),
        ({"max_length": 0}, "max_length is 0; it must be at least 1"),
        ({"text": "text", "header": False}, "text is the name 'text', but header is false: give its position"),
        ({"validation_share": 1.0}, "validation_share must be at least 0 and below 1, not 1.0"),
        ({"test_share": 0.9}, "test_share must be above 0 and below 1 - validation_share, not 0.9"),
        ({"test_share": 0.0}, "test_share must be above 0 and below 1 - validation_share, not 0.0"),
        ({"validation_share": 0.8}, "test_share must be above 0 and below 1 - validation_share, not 0.2"),
        (
            {"test_share": 0.3, "test_path": "b.csv"},
            "test_share has no effect on LabelledText: its splits do not depend on it",
        ),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(LabelledText, **{"path": "a.csv"} | options)


def lines(*rows, header="text,label"):
    return "\n".join([header, *rows])


ENOUGH = [f"{text},{'ab'[row % 2]}" for row, text in enumerate(texts(9))]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "rows.csv is empty"),
        (b"text,label\n\xff,a\n", {}, "rows.csv is not UTF-8: invalid start byte at byte 11"),
        ("text,label\n", {"label": "label"}, "rows.csv: no rows"),
        (lines(*ENOUGH, "one,two,three"), {}, "cannot read .*rows.csv: Error tokenizing data.*line 11"),
        ("text\none\n", {}, "rows.csv: texts and labels need two columns, it has one"),
        (lines("a,b,c", header="x,y,z"), {"label": "y"}, "rows.csv has 3 columns; give both text and label"),
        (lines(*ENOUGH), {"label": "lable"}, "rows.csv: no column 'lable'; did you mean 'label'"),
        (lines(*ENOUGH), {"label": 2}, "rows.csv: no column 2; it has 2, counted from 0"),
        (lines(*ENOUGH), {"label": -1}, "rows.csv: no column -1; it has 2, counted from 0"),
        (lines(*ENOUGH), {"label": 1, "text": 1}, "rows.csv: text and label are the same column, 1"),
        (lines("a,b", "c,d", "e,f"), {}, "rows.csv: it is not clear which column holds the label"),
        (lines("a,b", "a,d", "a,b", "a,d", "a,b", "a,d"), {}, "rows.csv: it is not clear which column holds the label"),
        (lines(*ENOUGH, "one,", "two"), {}, "rows.csv: 2 rows have no label, the first is row 10 below the header"),
        (
            lines(*ENOUGH[:4], " ,a", *ENOUGH[4:]),
            {},
            "rows.csv: 1 rows have no text, the first is row 5 below the header",
        ),
        ("\n".join([*ENOUGH, ",a"]), {}, "rows.csv: 1 rows have no text, the first is row 10$"),
        (lines(*[f"{text},a" for text in texts(9)]), {}, "rows.csv: only one label, 'a'"),
        (lines(*ENOUGH, "one,c", "two,c"), {}, "rows.csv, label 'c': 2 rows are too few for 3 splits"),
        (lines(*ENOUGH), {"label": "text"}, "rows.csv, label 'nought eight and .{23}[.]{3}': 1 rows are too few"),
        (lines(*ENOUGH), {"tokenizer": "bpe", "vocabulary": 257}, "a bpe vocabulary of 257 is too small"),
        (lines(*ENOUGH), {}, "batch_size 7 is greater than the training split of 5 rows"),
    ],
)
def test_files_that_are_refused(load, content, options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ = load(content, **options).splits
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lines("one,ham", "two,hamm", "three,eggs"),
            "test.csv: label 'hamm' of row 2 is not in .*rows.csv; did you",
        ),
        (lines("one,ham", header="txt,label"), "test.csv: no column 'text'; did you mean 'txt'"),
        (lines("one,ham", header="text,class"), "test.csv: no column 'label'"),
        (lines("one,ham", "two,"), "test.csv: 1 rows have no label, the first is row 2 below the header"),
        (lines(), "test.csv: no rows"),
    ],
)
def test_test_files_that_are_refused(load, save, content, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ = load(test_path=save(content, "test.csv")).splits
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^no file {tmp_path}/rows.csv$"):
        _ = build(LabelledText, str(tmp_path / "rows.csv")).task
