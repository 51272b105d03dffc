"""Clean files, and the ways in which files of strangers are not.

A defect takes the rows of a clean file, the header first, and a random generator, and returns the file with the words
of which one must be said of it, should it be read as anything else than the clean file: its column, or its row.
"""

from collections.abc import Callable
from datetime import date
from typing import NamedTuple

import numpy as np

Rows = list[list[str]]
Generator = np.random.Generator
HEADER = ["age", "income", "city", "member", "y"]
CITIES = ["Paris", "Rome", "Bonn"]
NUMBERS = 2  # columns from the left
ROWS = 120


class Defective(NamedTuple):
    """A file, and what may be said of it.

    Args:
        content: Of the file.
        words: One of them must be in a new line of the log where the values are not those of the clean file.
        plain: The file is the clean one, only written otherwise: nothing needs to be said.
    """

    content: bytes
    words: tuple[str, ...] = ()
    plain: bool = False


def clean_table(rng: Generator) -> Rows:
    """Two columns of numbers, two of texts, and a target of two classes."""
    rows = [HEADER]
    for i in range(ROWS):
        age, income = rng.normal(40, 9), rng.lognormal(8, 0.5)
        city, member = CITIES[rng.integers(3)], ("true", "false")[rng.integers(2)]
        rows.append([f"{age:.1f}", f"{income:.2f}", city, member, ("no", "yes")[i % 2]])
    return rows


def clean_series(rng: Generator) -> Rows:
    """A year, two columns of numbers, and a text."""
    level = np.cumsum(rng.normal(size=(ROWS, 2)), axis=0) + 50
    return [["year", "price", "volume", "note"]] + [
        [str(1850 + i), f"{a:.3f}", f"{b:.2f}", ("ok", "estimated")[i % 2]] for i, (a, b) in enumerate(level)
    ]


def written(rows: Rows, delimiter: str = ",", end: str = "\n", quoted: bool = False) -> str:
    """The rows as a text file; fields with a delimiter or a quotation mark stand in quotation marks."""

    def field(text: str) -> str:
        needs = quoted or any(mark in text for mark in (delimiter, '"', "\n"))
        return '"' + text.replace('"', '""') + '"' if needs else text

    return "".join(delimiter.join(map(field, row)) + end for row in rows)


def _in_cell(value: Callable[[str], str] | str, place: int | None = 0, share: float = 0.0):
    """Other values in one cell, or in a share of the cells of a column; None: of any column of numbers."""

    def defect(rows: Rows, rng: Generator) -> Defective:
        first = 1 if rows[0][0] == "year" else 0
        at = first + int(rng.integers(NUMBERS)) if place is None else place
        chosen = rng.random(len(rows)) < share
        chosen[rng.integers(1, len(rows))] = True
        for row in np.flatnonzero(chosen[1:]) + 1:
            rows[row][at] = value(rows[row][at]) if callable(value) else value
        return Defective(written(rows).encode(), (rows[0][at],))

    return defect


def _in_file(change: Callable[[Rows, Generator], str | bytes], *words: str, plain: bool = False):
    def defect(rows: Rows, rng: Generator) -> Defective:
        content = change(rows, rng)
        return Defective(content if isinstance(content, bytes) else content.encode(), words, plain)

    return defect


def _row(rng: Generator, rows: Rows) -> int:
    return int(rng.integers(1, len(rows)))


def _with_row(rows: Rows, rng: Generator, row: list[str]) -> str:
    rows.insert(_row(rng, rows), row)
    return written(rows)


def _with_column(rows: Rows, name: str, values: Callable[[int, list[str]], str], at: int = 0) -> str:
    for i, row in enumerate(rows):
        row.insert(at, name if i == 0 else values(i, row))
    return written(rows)


def _fields(rows: Rows, rng: Generator, change: Callable[[list[str]], list[str]], share: float = 0.0) -> str:
    chosen = {_row(rng, rows), *(i for i in range(1, len(rows)) if rng.random() < share)}
    return written([change(row) if i in chosen else row for i, row in enumerate(rows)])


def _stray_quotes(rows: Rows, rng: Generator) -> str:
    first, last = sorted(rng.choice(np.arange(1, len(rows)), 2, replace=False))
    at = rows[0].index("city" if "city" in rows[0] else "note")
    lines = [",".join(row) for row in rows]
    for i, (before, after) in ((first, ('"', "")), (last, ("", '"'))):
        lines[i] = ",".join([*rows[i][:at], before + rows[i][at] + after, *rows[i][at + 1 :]])
    return "\n".join(lines) + "\n"


def _one_quote(rows: Rows, rng: Generator) -> str:
    row = _row(rng, rows)
    lines = [",".join(row) for row in rows]
    lines[row] = lines[row].replace(",", ',"', 1)
    return "\n".join(lines) + "\n"


def _cut(rows: Rows, rng: Generator) -> str:
    text = written(rows).rstrip("\n")
    # Not at the end of a line: what is left would be a whole table, and no defect.
    return text[: -int(rng.integers(len(rows[-1][-1]) + 1, len(text) // 2))].rstrip("\n")


def _nul(rows: Rows, rng: Generator) -> bytes:
    content = written(rows).encode()
    place = int(rng.integers(len(content)))
    return content[:place] + b"\0" + content[place:]


def _sums(rows: Rows, _: Generator) -> str:
    last = ["Total" if i == 0 and "year" in rows[0] else rows[-1][i] for i in range(len(rows[0]))]
    for i, name in enumerate(rows[0]):
        if name in ("age", "income", "price", "volume"):
            last[i] = f"{sum(float(row[i]) for row in rows[1:]):.2f}"
        elif name in ("city", "note"):
            last[i] = "Total"
    return written([*rows, last])


def _sums_without_a_word(rows: Rows, rng: Generator) -> str:
    return _sums(rows, rng).replace("Total", rows[1][rows[0].index("city" if "city" in rows[0] else "note")])


def _thousands(mark: str, decimal: str = "."):
    def change(text: str) -> str:
        return f"{1000 * float(text):,.1f}".replace(",", "\1").replace(".", decimal).replace("\1", mark)

    return change


def _with_times(rows: Rows, columns: dict[str, Callable[[int], object]], order: int = 1) -> str:
    """Other columns in the place of the year, of the days from 2001 on; newest first if ``order`` is -1."""
    body = [[*(str(value(i)) for value in columns.values()), *row[1:]] for i, row in enumerate(rows[1:])]
    return written([[*columns, *rows[0][1:]], *body[::order]])


def _in_blocks(rows: Rows, station: str = "") -> str:
    """Three series of forty rows, one below the other."""
    rows = [rows[0], *([str(1850 + i % 40), *row[1:]] for i, row in enumerate(rows[1:]))]
    return _with_column(rows, station, lambda i, row: "ABC"[(i - 1) // 40]) if station else written(rows)


_DAYS = [date.fromordinal(date(2001, 1, 1).toordinal() + i) for i in range(ROWS)]
_YEAR_MONTH_DAY = {name: lambda i, name=name: getattr(_DAYS[i], name) for name in ("year", "month", "day")}


def _shuffled(rows: Rows, rng: Generator) -> str:
    return written([rows[0], *(rows[i] for i in 1 + rng.permutation(len(rows) - 1))])


def _swapped(rows: Rows, rng: Generator) -> str:
    row = int(rng.integers(1, len(rows) - 1))
    rows[row], rows[row + 1] = rows[row + 1], rows[row]
    return written(rows)


def _renamed(rows: Rows, change: Callable[[int], str], name: str, order: int = 1) -> str:
    """Other dates under another name, newest first if ``order`` is -1."""
    body = [[change(int(row[0])), *row[1:]] for row in rows[1:]][::order]
    return written([[name, *rows[0][1:]], *body])


_MARKS = (
    "?",
    "n.a.",
    "-",
    "unknown",
    "#DIV/0!",
    "12kg",
    "1_000",
    "0x1F",
    "\u22121.5",
    "Mar-01",
    "1 2",
    "\uff11\uff12",
    ".",
)
_WORDS = ("missing", "none", "nil", "k.A.")
COMMON = {
    "one sign for what is missing": lambda rows, rng: _in_cell(str(rng.choice(_MARKS)), None)(rows, rng),
    "a fifth missing, by a sign": lambda rows, rng: _in_cell(str(rng.choice(_MARKS)), None, 0.2)(rows, rng),
    "two thirds missing, by a sign": _in_cell("?", None, 0.66),
    "decimal commas": _in_cell(lambda text: text.replace(".", ","), None, 1),
    "one decimal comma": _in_cell(lambda text: text.replace(".", ","), None),
    "thousands, by commas": _in_cell(_thousands(","), None, 1),
    "thousands, by points": _in_cell(_thousands(".", ","), None, 1),
    "thousands, by blanks": _in_cell(_thousands("\xa0"), None, 1),
    "one number with thousands": _in_cell(_thousands(","), None),
    "one dollar sign": _in_cell(lambda text: "$" + text, None),
    "dollars and thousands": _in_cell(lambda text: "$" + _thousands(",")(text), None, 1),
    "dollars": _in_cell(lambda text: "$" + text, None, 1),
    "two currencies": lambda rows, rng: _in_cell(lambda text: "$€"[rng.integers(2)] + text, None, 1)(rows, rng),
    "-999 for what is missing": _in_cell("-999", None, 0.1),
    "99999 for what is missing": _in_cell("99999", None, 0.1),
    "words for what is missing": lambda rows, rng: _in_cell(lambda _: str(rng.choice(_WORDS)), None, 0.2)(rows, rng),
    "a unit behind each number": _in_cell(lambda text: text + " kg", None, 1),
    "a unit behind some numbers": _in_cell(lambda text: text + "kg", None, 0.4),
    "per cent behind some": _in_cell(lambda text: text + "%", None, 0.4),
    "negative numbers in parentheses": _in_cell(lambda text: f"({text})", None, 0.3),
    "a minus behind": _in_cell(lambda text: text + "-", None, 0.3),
    "a typographic minus": _in_cell(lambda text: "\u2212" + text, None, 0.4),
    "thin blanks in thousands": _in_cell(_thousands("\u2009"), None, 0.5),
    "a mark that is not seen": _in_cell(lambda text: text + "\u200b", None, 0.05),
    "exponents of Fortran": _in_cell(lambda text: f"{float(text):.5E}".replace("E", "D"), None, 1),
    "booleans among numbers": lambda rows, rng: _in_cell(lambda _: ("true", "false")[rng.integers(2)], None, 0.4)(
        rows, rng
    ),
    "dates that a spreadsheet made": _in_cell("Mar-01", None, 0.05),
    "the same number everywhere": _in_cell("7", None, 1),
    "1e308": _in_cell("1e308", None),
    "1e30": _in_cell("1e30", None),
    "infinity": _in_cell("inf", None),
    "1e400": _in_cell("-1e400", None),
    "an empty cell": _in_cell("", None),
    "a column that is empty": _in_cell("", None, 1),
    "an empty cell of the target": lambda rows, rng: _in_cell("", len(rows[0]) - 1 if "y" in rows[0] else 1)(rows, rng),
    "a repeated name": _in_file(lambda rows, rng: _with_column(rows, rows[0][1], lambda i, row: row[1], 3)),
    "the target twice": _in_file(lambda rows, rng: _with_column(rows, rows[0][-1], lambda i, row: row[-1], 1)),
    "a name without letters": _in_file(lambda rows, rng: written([[" ", *rows[0][1:]], *rows[1:]])),
    "no header": _in_file(lambda rows, rng: written(rows[1:])),
    "the header again": _in_file(lambda rows, rng: _with_row(rows, rng, list(rows[0]))),
    "a row of units": _in_file(lambda rows, rng: written([rows[0], ["units"] * len(rows[0]), *rows[1:]])),
    "a comment above": _in_file(lambda rows, rng: "# made by a program, version 2\n" + written(rows)),
    "a footnote": _in_file(lambda rows, rng: written(rows) + "source: the office\n"),
    "trailing commas in all rows": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: [*row, ""], 1)),
    "trailing commas everywhere": _in_file(lambda rows, rng: written([[*row, ""] for row in rows]), plain=True),
    "one trailing comma": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: [*row, ""])),
    "short rows": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: row[:-1], 0.2)),
    "a short row": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: row[:-1])),
    "a long row": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: [*row, "1"])),
    "a shifted row": _in_file(lambda rows, rng: _fields(rows, rng, lambda row: [*row[1:], row[0]])),
    "all rows longer": _in_file(lambda rows, rng: written([rows[0], *(["1", *row] for row in rows[1:])])),
    "two stray quotation marks": _in_file(_stray_quotes),
    "a stray quotation mark": _in_file(_one_quote),
    "a cut file": _in_file(_cut, "ends without a line break"),
    "a NUL": _in_file(_nul),
    "a row of sums": _in_file(_sums),
    "a row of sums without a word": _in_file(_sums_without_a_word),
    "semicolons": _in_file(lambda rows, rng: written(rows, ";")),
    "semicolons and decimal commas": _in_file(
        lambda rows, rng: written([[text.replace(".", ",") for text in row] for row in rows], ";")
    ),
    "tabs": _in_file(lambda rows, rng: written(rows, "\t")),
    "UTF-16": _in_file(lambda rows, rng: written(rows).encode("utf-16")),
    "Latin-1": _in_file(lambda rows, rng: written([[*rows[0][:-1], rows[0][-1] + "é"], *rows[1:]]).encode("latin-1")),
    "a byte order mark": _in_file(lambda rows, rng: "\ufeff" + written(rows), plain=True),
    "carriage returns": _in_file(lambda rows, rng: written(rows, end=("\r\n", "\r")[rng.integers(2)]), plain=True),
    "everything quoted": _in_file(lambda rows, rng: written(rows, quoted=True), plain=True),
    "three kinds of line ends": _in_file(
        lambda rows, rng: "".join(x + ("\n", "\r\n", "\r")[rng.integers(3)] for x in written(rows).splitlines()),
        plain=True,
    ),
    "line breaks in a field": _in_file(
        lambda rows, rng: _with_column(rows, "memo", lambda i, row: f"a\nb{i % 3}"), "memo"
    ),
    "a line with the delimiter": _in_file(lambda rows, rng: "sep=,\n" + written(rows)),
    "a title": _in_file(lambda rows, rng: "Sales of 2024" + "," * (len(rows[0]) - 1) + "\n" + written(rows)),
    "two tables": _in_file(lambda rows, rng: written(rows) + "\n" + written(rows)),
    "a row of commas": _in_file(lambda rows, rng: _with_row(rows, rng, [""] * len(rows[0]))),
    "blank lines": _in_file(lambda rows, rng: "\n" + written(rows).replace("\n", "\n\n", 3) + "\n\n", plain=True),
    "blanks around names": _in_file(
        lambda rows, rng: written([[f" {name} " for name in rows[0]], *rows[1:]]), plain=True
    ),
    "blanks around all fields": _in_file(
        lambda rows, rng: written([[f" {text} " for text in row] for row in rows]), "spaces around"
    ),
}  # fmt: skip
OF_TABLES = {
    "a class with a blank": _in_cell(lambda text: text + " ", 4),
    "a class in capitals": _in_cell(str.upper, 4),
    "a third class": _in_cell("maybe", 4),
    "a category with a blank": _in_cell(lambda text: " " + text, 2),
    "a category in capitals": _in_cell(str.upper, 2),
    "booleans in capitals": _in_file(
        lambda rows, rng: written([[*row[:3], row[3].upper(), *row[4:]] for row in rows]).replace("MEMBER", "member"),
        plain=True,
    ),
    "the target under another name": _in_file(lambda rows, rng: _with_column(rows, "label", lambda i, row: row[-1], 1)),
    "a number of the row": _in_file(lambda rows, rng: _with_column(rows, "nr", lambda i, row: str(i)), "nr"),
    "row labels of pandas": _in_file(lambda rows, rng: _with_column(rows, "", lambda i, row: str(i - 1)), plain=True),
    "an id": _in_file(lambda rows, rng: _with_column(rows, "client_id", lambda i, row: str(7 * i + 900)), "client_id"),
    "names": _in_file(lambda rows, rng: _with_column(rows, "name", lambda i, row: f"Person {i}"), "name"),
    "dates as text": _in_file(
        lambda rows, rng: _with_column(rows, "joined", lambda i, row: f"20{i % 80 + 10}-0{i % 9 + 1}-11"), "joined"
    ),
    "some rows twice": _in_file(lambda rows, rng: written(rows + rows[1:20]), "repeat"),
}
OF_SERIES = {
    "years, newest first": _in_file(lambda rows, rng: written([rows[0], *rows[:0:-1]])),
    "years in disorder": _in_file(_shuffled),
    "two years swapped": _in_file(_swapped),
    "Date, newest first": _in_file(lambda rows, rng: _renamed(rows, lambda year: f"{year}0101", "Date", -1)),
    "timestamps, newest first": _in_file(lambda rows, rng: _renamed(rows, lambda y: str(y * 86400), "timestamp", -1)),
    "an unknown word for years, newest first": _in_file(lambda rows, rng: _renamed(rows, str, "Jahr", -1)),
    "text dates, newest first": _in_file(lambda rows, rng: _renamed(rows, lambda y: f"01.02.{y}", "when", -1)),
    "year, month, day": _in_file(lambda rows, rng: _with_times(rows, _YEAR_MONTH_DAY), plain=True),
    "year, month, day, newest first": _in_file(lambda rows, rng: _with_times(rows, _YEAR_MONTH_DAY, -1)),
    "decimal years, newest first": _in_file(lambda rows, rng: _with_times(rows, {"t": lambda i: 1959 + i / 4}, -1)),
    "seconds in disorder": _in_file(lambda rows, rng: _with_times(rows, {"t": lambda i: 978307200 + 3600 * (i ^ 1)})),
    "days in digits, newest first": _in_file(
        lambda rows, rng: _with_times(rows, {"t": lambda i: f"{_DAYS[i]:%Y%m%d}"}, -1)
    ),
    "three stations": _in_file(lambda rows, rng: _in_blocks(rows)),
    "three stations by name": _in_file(lambda rows, rng: _in_blocks(rows, "station"), "station"),
    "a year twice": _in_file(lambda rows, rng: written([*rows[:60], rows[59], *rows[60:]])),
    "a year that is missing": _in_cell("", 0),
    "a year that is none": _in_cell("soon", 0),
}
