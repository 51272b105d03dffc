import csv

import pytest

from unvanish.data import table_rows
from unvanish.data.table_rows import checked

PLAIN = {
    "lines": b"a,b\n1,2\n3,4\n5,6\n",
    "no last break": b"a,b\n1,2\n33333,4\n5,6",
    "carriage returns": b"a,b\r\n1,2\r\n3,4\r\n5,6\r\n",
    "blank lines": b"a,b\n\n1,2\n\n\n3,4\n5,6\n\n",
    "blank lines with carriage returns": b"a,b\r\n\r\n1,2\r\n3,4\r\n5,6\r\n\r\n",
    "empty fields": b"a,b\n,\n,4\n5,\n",
    "other letters": "é,ü\n1,ä\n3,4\n\u2028,\x0b\n".encode(),
}
NOT_PLAIN = {
    "quotation marks": b'a,b\n"1\n",2\n3,4\n5,6\n',
    "a blank line first": b"\na,b\n1,2\n3,4\n5,6\n",
    "carriage returns alone": b"a,b\r1,2\r3,4\r5,6\r",
    "one carriage return": b"a,b\n1,2\r3,4\n5,6\n",
    "what begins as the header": b"a,b\na,bc\n3,4\n5,6\n",
}


class Counts:
    def __init__(self, count):
        self.count, self.found = count, []

    def __call__(self, *arguments):
        self.found.append(self.count(*arguments))
        return self.found[-1]


@pytest.mark.parametrize("block", [9, 2**24])
@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_lines_that_are_plainly_rows_are_counted(content, block, monkeypatch):
    monkeypatch.setattr(table_rows, "_BLOCK", block)
    monkeypatch.setattr(table_rows, "_read_rows", None)
    monkeypatch.setattr(table_rows, "_plain_rows", counts := Counts(table_rows._plain_rows))
    assert checked(content, ",")[1] == 3
    assert counts.found == [3]


@pytest.mark.parametrize("content", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_all_others_are_read_row_by_row(content, monkeypatch):
    monkeypatch.setattr(table_rows, "_plain_rows", counts := Counts(table_rows._plain_rows))
    assert checked(content, ",") == (["a", "b"], 3)
    assert counts.found == [None]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a,b\n1,2\n3\n", "1 of 2 rows have more or fewer fields than the header, which has 2; the first is row 2"),
        (b"a,b\n1,2\n3,4,5\n", "the first is row 2 below it, with 3"),
        (b"a,b\n1,2\n \n", "the first is row 2 below it, with 1"),
        (b"a,b\n1,2\na,b\n", "row 2 below the header .line 3. is the header again"),
        (b"a,b\na,b", "row 1 below the header .line 2. is the header again"),
        (b"a,b\n1," + b"2" * (csv.field_size_limit() + 1) + b"\n", "line 2: field larger than field limit"),
    ],
)
def test_what_is_no_row_is_refused_in_the_same_words(content, why):
    with pytest.raises(ValueError, match=why):
        checked(content, ",")
