import gzip
import logging
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from unvanish.data import table_file
from unvanish.data.table_file import TableFormat, read_table


@pytest.fixture
def refusal(tmp_path):
    """Why a file with this content is refused, below its name."""

    def read(content, name="rows.csv", **form):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=r"^cannot read .*rows") as error:
            read_table(str(path), TableFormat(**form))
        assert "\n" not in str(error.value)
        return str(error.value).partition(f"{name}: ")[2]

    return read


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1,2,\n3,4,\n", "2 of 2 rows have more or fewer fields than the header, which has 2; the first is row 1"),
        ("a,b\n1,2\n3\n", "1 of 2 rows have more or fewer fields than the header, which has 2; the first is row 2"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
        ("a, a\n1,2\n", "columns 1 and 2 are both called 'a'"),
        ("a,,b\n1,2,3\n", "column 2 has no name in the header"),
        ("a,b\n1,2\na,b\n3,4\n", "row 2 below the header (line 3) is the header again"),
        ("a,b\n1,2\n\x003,4\n", "a NUL character in line 3"),
        ('a,b,c\n1,2,"x\n3,4,y\n5,6,z"\n', "row 1 below the header holds lines 2 to 4 as one field, which has the"),
        ('a,b\n1,"x"y\n', "line 2: ',' expected after '\"'; is a quotation mark unpaired?"),
        ('a,b\n1,"x\n2,y\n', "line 3: unexpected end of data; is a quotation mark unpaired?"),
        ("a;b\n1;2\n", "its header has one field, 'a;b'; try delimiter=';'"),
        ("a;b\n1,5;2\n", "1 of 1 rows have more or fewer fields than the header, which has 1; the first is row 1 below "
         "it, with 2; try delimiter=';'"),
        ("a\n1\n\n3\n", "line 3 is blank, which may or may not be a missing value"),
        ("a,b\n1,é\n".encode("latin-1"), "line 2 is not utf-8: invalid continuation byte, byte 0xe9; give its"),
        ("a,b\n1,2\n".encode("utf-16"), "it begins like UTF-16, not UTF-8; give encoding=utf-16"),
        (b"\n\n", "No columns to parse: it is empty"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_its_place(refusal, content, reason):
    assert refusal(content).startswith(reason)


def test_compressed_files_that_are_cut_or_explode(refusal, monkeypatch):
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 50_000)
    assert refusal(content[:-20], "rows.csv.gz").startswith("the compressed file is cut or damaged")
    monkeypatch.setattr(table_file, "_SMALL", 1000)
    assert refusal(content, "rows.csv.gz") == "it unpacks to more than 100 times its size; unpack it first"


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("a,b\n1,x\n2.5,y\n", {}),
        ("\ufeffa,b\r\n1,x\r\n2.5,y\r\n", {}),
        ("\n a , b \r1,x\r\r2.5,y\r\n", {}),
        ('"a","b"\n"1","x"\n"2.5","y"\n', {}),
        ("a,b,\n1,x,\n2.5,y,\n", {}),
        (",a,b\n0,1,x\n1,2.5,y\n", {}),
        ("a|b\n1|x\n2.5|y\n", {"delimiter": "|"}),
        ("a,b\n1,x\n2.5,y\n".encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_ways_to_write_one_table(tmp_path, content, form):
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame = read_table(str(path), TableFormat(**form))
    assert frame.to_dict("list") == {"a": [1, 2.5], "b": ["x", "y"]}


def test_a_field_may_have_line_breaks(tmp_path):
    (tmp_path / "rows.csv").write_text('a,b,c\n1,2,"one, two\nthree"\n3,4,x\n')
    assert read_table(str(tmp_path / "rows.csv"))["c"].tolist() == ["one, two\nthree", "x"]


def test_columns_without_a_name_are_left_out_and_a_last_line_without_its_end_is_said(tmp_path, caplog):
    (tmp_path / "rows.csv").write_text(",a,\n0,5,\n1,6,")
    with caplog.at_level(logging.INFO, "unvanish.data"):
        read_table(str(tmp_path / "rows.csv"))
    ends, unnamed = (message.partition("rows.csv: ")[2] for message in caplog.messages)
    assert ends == "row 2 below the header, the last one, ends without a line break; is the file complete?"
    assert unnamed == "unnamed columns that are empty or number the rows are left out: column 1, column 3"


def test_a_column_as_text_and_a_sign_for_what_is_missing(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n01,-9\n02,3\n")
    frame = read_table(str(tmp_path / "rows.csv"), TableFormat(na_values=["-9"]), as_text=["a"])
    assert frame["a"].tolist() == ["01", "02"]
    assert np.isnan(frame["b"][0])


def test_zeros_that_lead_a_number_are_said(tmp_path, caplog):
    (tmp_path / "rows.csv").write_text("zip,part,month,a\n10115,0.001,04,7\n00501,1.5,05,8\n")
    with caplog.at_level(logging.INFO, "unvanish.data"):
        assert read_table(str(tmp_path / "rows.csv"))["zip"].tolist() == [10115, 501]
    (said,) = caplog.messages
    assert said.endswith(
        "column 'zip' has '00501' in row 2 below the header, which is read as 501; if it is an id, list it among "
        "categories"
    )
    caplog.clear()
    assert read_table(str(tmp_path / "rows.csv"), as_text=["zip"])["zip"].tolist() == ["10115", "00501"]
    assert not caplog.messages


def test_parquet_whose_text_is_not_utf_8_is_refused(refusal, tmp_path):
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
    )
    parquet.write_table(pa.table({"kind": texts}), tmp_path / "made")
    reason = refusal((tmp_path / "made").read_bytes(), "rows.parquet")
    known = "column 'kind' holds text that is not UTF-8 ('Invalid UTF8 sequence at string index 1')"
    assert reason == known or reason.startswith("Unknown error: Wrapping")  # with pandas below 3, which decodes it


def test_parquet_keeps_its_named_index_and_whole_numbers_as_names(tmp_path):
    frame = pd.DataFrame({0: [1.0, 2.0]}, index=pd.Index(["p", "q"], name="place"))
    frame.to_parquet(tmp_path / "rows.parquet")
    assert read_table(str(tmp_path / "rows.parquet")).to_dict("list") == {"place": ["p", "q"], "0": [1, 2]}


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(FileNotFoundError, match=r"^no regular file .*rows.csv$"):
        read_table(str(tmp_path / "rows.csv"))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character, not ';;'"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"decimal": ";"}, "decimal must be '.' or ',', not ';'"),
        ({"decimal": ",", "thousands": ","}, "thousands must be a blank or one of .* and not the decimal, not ','"),
        ({"thousands": "0"}, "thousands must be a blank"),
        ({"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        ({"encoding": "hex"}, "unknown encoding 'hex'"),
    ],
)
def test_formats_are_checked_at_once(form, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TableFormat(**form)


@pytest.mark.parametrize("late", ["7", "7.5", "x", "", "true", "1e400", "99999999999999999999999"])
@pytest.mark.parametrize("early", ["1", "1.5", "a", "", "true"])
def test_a_table_that_is_read_in_parts_is_what_it_is_at_once(early, late, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + f"{early},1\n" * 4 + f"{late},2\n" * 3)
    whole = read_table(str(path))
    monkeypatch.setattr(table_file, "_PART", 2)
    pd.testing.assert_frame_equal(read_table(str(path)), whole)
