import logging

import numpy as np
import pandas as pd
import pytest

from unvanish.data.columns import differing_in_case, names_rows, parsed
from unvanish.data.table_file import TableFormat

ROWS = 23


def column_of(values, name="x", **form):
    return parsed(pd.DataFrame({name: values}), "rows.csv", TableFormat(**form))[name]


def with_value(value, row, values=None):
    column = list(map(str, np.arange(ROWS) * 1.5)) if values is None else list(values)
    column[row] = value
    return column


@pytest.mark.parametrize(
    ("texts", "form", "numbers"),
    [
        (["1", " 2 ", "-3.5", ".5", "1e3"], {}, [1, 2, -3.5, 0.5, 1000]),
        (["1,5", "-2", ",25", "1e3"], {"decimal": ","}, [1.5, -2, 0.25, 1000]),
        (["1,234.5", "12", "1,234,567"], {"thousands": ","}, [1234.5, 12, 1234567]),
        (["1.234,5", "12", "7.000"], {"thousands": ".", "decimal": ","}, [1234.5, 12, 7000]),
        (["1 234", "12"], {"thousands": " "}, [1234, 12]),
        (["$1,234.50", "-$2", "$ 3"], {"thousands": ","}, [1234.5, -2, 3]),
        (["5 %", "7.5%"], {}, [5, 7.5]),
        (["1", "?", "", "3"], {"na_values": ("?",)}, [1, np.nan, np.nan, 3]),
        (["1", "-999.0", "3"], {"na_values": "-999"}, [1, np.nan, 3]),
        ([1, -999, 3], {"na_values": ["?", "-999.0"]}, [1, np.nan, 3]),
    ],
)
def test_numbers_as_they_are_written(texts, form, numbers):
    assert np.array_equal(column_of(texts, **form), numbers, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "form", "message"),
    [
        (
            with_value("?", 7),
            {},
            r"row 8 below the header has '\?'; na_values='\?' if it stands for a missing value",
        ),
        (with_value("1,5", 7), {}, "row 8 .* has '1,5'; decimal=',' reads that"),
        (["1,5", "2,5"] * 9, {}, "row 1 .* has '1,5', and 18 of 18 values are not numbers; decimal=',' reads that"),
        (["1,500", "2"] * 9, {}, "row 1 .* '1,500', and 9 of 18 .*; thousands=',' or decimal=',' reads that"),
        (["1,500.5", "2"] * 9, {}, "row 1 .* '1,500.5', and 9 of 18 .*; thousands=',' reads that"),
        (["1.500,5", "2"] * 9, {}, "row 1 .* '1.500,5', .*; decimal=',' and thousands='.' read that"),
        (["$1,500"] * 9, {}, "row 1 .* '.1,500', and 9 of 9 .*; thousands=',' or decimal=',' reads that"),
        (with_value("$5", 2), {}, "row 3 .* '.5'; use the same currency sign with all numbers, or none"),
        (["$5", "€5"] * 9, {}, "row 1 .* '.5', and 18 of 18 .*; use the same currency sign"),
        (["1,5", "2.5"] * 9, {"decimal": ","}, "row 2 .* has '2.5', and 9 of 18 .*; decimal is ',' here"),
        (["12,5", "1,234"] * 9, {"thousands": ","}, "row 1 .* has '12,5', and 9 of 18 .*; decimal=',' reads that"),
        (["5", "(2.5)", "7"] * 9, {}, r"row 2 .* has '\(2.5\)', and 9 of 27 .*; a negative number begins with '-'"),
        (["($2)", "(7)"] * 9, {}, r"row 1 .* has '\(\$2\)', and 18 of 18 .*; a negative number begins with '-'"),
        (["5", "7", "2.5-"] * 9, {}, "row 3 .* has '2.5-', and 9 of 27 .*; a negative number begins with '-'"),
        (
            ["\u22125", "7"] * 9,
            {},
            "row 1 .* has '\u22125', and 9 of 18 .*; numbers have the digits 0 to 9, '-'",
        ),
        (["1.5D+03"] * 9, {}, "row 1 .* has '1.5D.03', and 9 of 9 .*; numbers have the digits 0 to 9, '-'"),
        (["\u0664\u0661"] * 9, {}, "row 1 .* has '\u0664\u0661', and 9 of 9 .*; numbers have the digits 0 to 9"),
    ],
)
def test_columns_of_numbers_that_hold_something_else(values, form, message):
    with pytest.raises(ValueError, match=f"^rows.csv: column 'x' must hold numbers; {message}"):
        column_of(values, **form)


def test_texts_among_which_are_numbers_stay_texts_and_that_is_said(caplog):
    tickets = [f"A/5 {i}" if i % 3 == 0 else str(i) for i in range(1, 31)]
    with caplog.at_level(logging.INFO, "unvanish.data"):
        assert column_of(tickets).tolist() == tickets
    assert caplog.messages == [
        "rows.csv: column 'x' is text: row 3 below the header has 'A/5 3', though 20 of 30 values are numbers"
    ]


def test_numbers_among_which_are_texts_are_said_by_the_first_number(caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        column_of(["Rome", "Bonn", "Rome", "41.5", "Oslo", "39"])
    assert caplog.messages == [
        "rows.csv: column 'x' is text, though 2 of 6 values are numbers, the first '41.5' in row 4 below the header"
    ]


@pytest.mark.parametrize("form", ["{} kg", "{}kg", "{}\u00b0C", "~{}", "[{}]", "{}N", "{} km/h", "{}\u2030"])
def test_numbers_with_a_unit_are_texts_and_that_is_said(caplog, form):
    texts = [form.format(i * 1.5) for i in range(ROWS)]
    assert column_of(texts).tolist() == texts
    words = (
        f"is text: row 1 below the header has {texts[0]!r}, and a number with a unit or any "
        "other character is not a number"
    )
    assert caplog.messages == [f"rows.csv: column 'x' {words}"]


@pytest.mark.parametrize("form", ["{}.2.2003", "2001-02-{}", "{}-{}", "A{}", "Room {}", "{} Main Street", "{}:30"])
def test_texts_with_numbers_in_them_are_texts_and_nothing_is_said(caplog, form):
    column_of([form.format(i, i + 9) for i in range(10, 10 + ROWS)])
    column_of([f"{(i % 4 + 1) * 12} months" for i in range(ROWS)])
    assert not caplog.messages


def test_whole_numbers_of_too_many_digits_are_said(caplog):
    assert column_of(2**60 + np.arange(ROWS)).nunique() == 1
    words = (
        f"has {2**60} in row 1 below the header, of which only 16 digits are kept; if it is an id, ignore the column"
    )
    assert caplog.messages == [f"rows.csv: column 'x' {words}"]
    assert column_of(2**53 - 1 - np.arange(ROWS)).nunique() == ROWS


def test_blanks_are_taken_off_and_that_is_said(caplog):
    with caplog.at_level(logging.INFO, "unvanish.data"):
        found = column_of(["a", "a ", " ", "b\t"])
    assert found.fillna("missing").tolist() == ["a", "a", "missing", "b"]
    assert caplog.messages == ["rows.csv: column 'x': spaces around 3 values are removed, the first in row 2"]


def test_booleans_are_read_in_any_case():
    assert column_of(["True", "FALSE", "true"]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("last", "word"),
    [
        ("Total", "'Total' in column 'name'"),
        ("Median", "'Median' in column 'name'"),
        ("n7", "is the sum of the rows above it"),
    ],
)
def test_a_last_row_that_sums_up_is_refused(last, word):
    amounts = np.arange(1, ROWS) * 1.1
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(ROWS - 1)] + [last], "amount": [*amounts, amounts.sum()]})
    with pytest.raises(ValueError, match=f"^rows.csv: the last row, 23 below the header, .*{word}"):
        parsed(frame, "rows.csv", TableFormat())
    frame.loc[ROWS - 1, ["name", "amount"]] = ["n7", 3.0]
    assert len(parsed(frame, "rows.csv", TableFormat())) == ROWS


def test_texts_that_differ_in_case_or_in_kind_of_letters():
    assert differing_in_case(pd.Series(["yes", None, "no", "Yes"])) == ("yes", "Yes", 4)
    assert differing_in_case(pd.Series(["A1", "\uff211"])) == ("A1", "\uff211", 2)
    assert differing_in_case(pd.Series(["Bonn", "Rome", "Bon\u00adn"])) == ("Bonn", "Bon\u00adn", 3)  # a soft hyphen
    assert differing_in_case(pd.Series(["yes\u200b", "yes"])) == ("yes\u200b", "yes", 2)  # a blank of no width
    assert differing_in_case(pd.Series(["New York", "New  York"])) == ("New York", "New  York", 2)
    assert differing_in_case(pd.Series(["yes", "no", "yes"])) is None


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ([f"n{i}" for i in range(ROWS)], "name", "nearly all distinct"),
        ([f"n{i % 12}" for i in range(ROWS)], "ticket", "nearly all distinct"),
        ([f"n{i % 11}" for i in range(ROWS)], "code", ""),
        ([f"n{i}" for i in range(10)], "few", ""),
        (np.arange(1, ROWS + 1)[::-1], "nr", "an id, by its name"),
        (np.arange(ROWS), "x", ""),
        (np.arange(ROWS) + 5, "year", ""),
        (np.arange(ROWS) * 7 + 5, "PassengerId", "an id, by its name"),
        (np.arange(ROWS) * 7 + 5, "client_id", "an id, by its name"),
        (np.arange(ROWS) * 7 + 5, "humid", ""),
        (np.arange(ROWS) * 1.5, "id", ""),
    ],
)  # fmt: skip
def test_columns_that_name_their_rows(values, name, reason):
    assert names_rows(pd.Series(values, name=name)) == reason
