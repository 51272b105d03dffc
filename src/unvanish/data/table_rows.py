"""Checks that all rows of a table have as many fields as its header, and refuses it in one line otherwise."""

import csv
from io import BytesIO, TextIOWrapper
from typing import Any

import numpy as np

DELIMITERS = ",;\t|"
_BLOCK = 2**24  # bytes that are looked at together


def checked(content: bytes, delimiter: str) -> tuple[list[str], int]:
    """Read the header and count the rows below it, all of which must have the same number of fields.

    Args:
        content: The text in UTF-8.
        delimiter: The character between two fields.

    Raises:
        ValueError: It is empty, or a row does not fit the header.
    """
    with TextIOWrapper(BytesIO(content), "utf-8", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise ValueError("No columns to parse: it is empty")
            count = _plain_rows(content, delimiter.encode(), header)
            return header, _read_rows(reader, delimiter, header) if count is None else count
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}; is a quotation mark unpaired?") from error


def _plain_rows(content: bytes, delimiter: bytes, header: list[str]) -> int | None:
    """Count the rows if every line is a plain row without quotation marks and the header is not repeated; else None."""
    line = delimiter.join(field.encode() for field in header)
    begin = content.find(b"\n") + 1
    is_plain = len(delimiter) == 1 and b'"' not in content and content.count(b"\r") == content.count(b"\r\n")
    if len(header) < 2 or not begin or not is_plain or content[:begin].rstrip(b"\r\n") != line:
        return None
    rows = 0
    while begin < len(content):
        end = len(content) if len(content) - begin <= _BLOCK else content.rfind(b"\n", begin, begin + _BLOCK) + 1
        if not end or content.startswith(line, begin) or b"\n" + line in content[begin:end]:
            return None
        block = np.frombuffer(content, np.uint8, end - begin, begin)
        starts = np.concatenate(([0], np.flatnonzero(block == ord("\n")) + 1))
        starts = starts[starts < len(block)]
        lengths = np.diff(starts, append=len(block))
        delimiters = np.flatnonzero(block == delimiter[0])
        counts = np.diff(np.searchsorted(delimiters, starts), append=len(delimiters))
        is_row = counts == len(header) - 1
        is_blank = (lengths == 1) | ((lengths == 2) & (block[starts] == ord("\r")))
        if not (is_row | is_blank).all() or lengths.max() > csv.field_size_limit():
            return None
        rows += int(is_row.sum())
        begin = end
    return rows


def _read_rows(reader: Any, delimiter: str, header: list[str]) -> int:
    """Count the rows one by one, and say what is wrong if they do not fit the header."""
    wrong: list[tuple[int, int]] = []
    rows, line = 0, reader.line_num
    for row in reader:
        start, line = line, reader.line_num
        if not row:
            if len(header) == 1:
                raise ValueError(f"line {line} is blank, which may or may not be a missing value")
            continue
        rows += 1
        if len(row) != len(header):
            wrong.append((rows, len(row)))
        elif row == header:
            raise ValueError(f"row {rows} below the header (line {line}) is the header again")
        elif line - start > 1 and _swallows_rows(row, delimiter):
            raise ValueError(
                f"row {rows} below the header holds lines {start + 1} to {line} as one field, which has the "
                "delimiters of as many rows; is a quotation mark unpaired?"
            )
    other = max(DELIMITERS, key=lambda character: delimiter.join(header).count(character))
    hint = f"; try delimiter={other!r}" if other != delimiter and other in delimiter.join(header) else ""
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {rows} rows have more or fewer fields than the header, which has {len(header)}; the "
            f"first is row {wrong[0][0]} below it, with {wrong[0][1]}{hint}"
        )
    if hint and len(header) == 1:
        raise ValueError(f"its header has one field, {header[0][:40]!r}{hint}")
    return rows


def _swallows_rows(row: list[str], delimiter: str) -> bool:
    """Whether a field contains line breaks, each with as many delimiters as a whole row has."""
    return any("\n" in field and field.count(delimiter) == field.count("\n") * (len(row) - 1) for field in row)
