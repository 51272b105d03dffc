"""Parses the columns of a table as numbers or texts; a value that is neither is refused, with its row and column.

Rows are counted from 1, below the header.
"""

import logging
import re
import unicodedata
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_datetime64_any_dtype, is_integer_dtype, is_numeric_dtype

from unvanish.data.splits import Integers
from unvanish.data.table_file import TableFormat

logger = logging.getLogger(__name__)

LARGEST = 3e38  # in float32
IS_ID = "an id, by its name"
TOO_FAR = 1e18  # from the training rows, in standard deviations; its square is near that
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_TEXTS = ("string", "mixed-integer", "date", "datetime", "datetime64", "empty")
_TRUE_FALSE = {"true": True, "false": False}
_MARKERS = 3  # different texts among numbers that are taken for a mistake, or for signs of what is missing
_SHARE = 0.9  # of numbers, above which everything else is
_SIGNS = re.compile(r"^([-+]?)\s?[$€£¥]\s?|\s?[$€£¥%]$")
_OTHERWISE = {  # numbers as they are written elsewhere, and what reads them
    r"[-+]?\d{1,3}(,\d{3})+": "thousands=',' or decimal=',' reads that",
    r"[-+]?\d{1,3}(,\d{3})+\.\d*": "thousands=',' reads that",
    r"[-+]?\d*,\d+": "decimal=',' reads that",
    r"[-+]?\d{1,3}(\.\d{3})+,\d*": "decimal=',' and thousands='.' read that",
    r"[-+]?\d{1,3}(\.\d{3}){2,}": "decimal=',' and thousands='.' read that",
    r"[-+]?\d{1,3}( \d{3})+([.,]\d*)?": "thousands=' ' reads that",
    r"[-+]?\d{1,3}('\d{3})+([.,]\d*)?": 'thousands="\'" reads that',
    r"[-+]?\d{1,3}([_\u2019\xa0\u202f]\d{3})+([.,]\d*)?": "thousands, the character between the digits, reads that",
    r"\(\s?[$€£¥]?\s?\d[\d.,]*\s?\)|\d[\d.,]*-": "a negative number begins with '-'",
    r"(?![-+0-9.eE]+$)[-+\u2212]?\d+(\.\d*)?([eEdD][-+]?\d+)?": "numbers have the digits 0 to 9, '-' and 'e'",
}
#: A number with a sign in front or a unit behind.
_WITH_UNIT = re.compile(r"[^\w\s]{0,3}\s?\d+([,.'\u2009\u202f\xa0]\d+)?\s?[^\d\s]{0,4}")
_ID = re.compile(r"(?i:(^|[_\W])(id|index|idx|nr|no|number|row)$)|[a-z]I[dD]$")
_TOTAL = re.compile(
    r"(grand |sub)?(total|sum|summe|gesamt|somme|moyenne|average|avg\.?|mean|mittelwert|median)s?:?", re.IGNORECASE
)


def holds_numbers(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers; booleans are categories."""
    return is_numeric_dtype(column) and not is_bool_dtype(column)


def row_of(mask: Any) -> int:
    """The first row that is so, from 1."""
    return int(np.argmax(np.asarray(mask))) + 1


def parsed(
    table: pd.DataFrame,
    source: str,
    form: TableFormat,
    *,
    as_text: Collection[str] = (),
    as_number: Collection[str] = (),
) -> pd.DataFrame:
    """Numbers as numbers, booleans as booleans, dates of a Parquet file as they are, and all else as texts.

    Blanks around texts are taken off. A column of which most values are numbers has to hold numbers alone.

    Args:
        table: The columns.
        source: Where they come from, for refusals.
        form: How numbers and missing values are written.
        as_text: Columns to be left as texts.
        as_number: Columns that must hold numbers.

    Raises:
        ValueError: A column holds something else, or a number that float32 cannot hold, or the last row is a sum.
    """
    columns = {}
    for name in table:
        numbers = False if name in as_text else True if name in as_number else None
        columns[name] = _parsed(table[name], f"{source}: column {name!r}", form, numbers)
    found = pd.DataFrame(columns, index=table.index, copy=False)
    _refuse_total(found, source)
    return found


def _parsed(column: "pd.Series[Any]", where: str, form: TableFormat, numbers: bool | None) -> "pd.Series[Any]":
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    kind = infer_dtype(column, skipna=True)
    if kind in _NUMBERS and numbers is not False:
        return _finite(column, where, form)
    is_date = is_datetime64_any_dtype(column)
    if kind == "boolean" or (is_date and not numbers):
        return column
    if kind not in (*_TEXTS, *_NUMBERS) or is_date:
        row = row_of(column.notna())
        raise ValueError(
            f"{where} must hold numbers{'' if is_date else ' or texts'}; row {row} below the header has "
            f"{str(column.iloc[row - 1])[:40]!r}, of kind {kind}; ignore=[{column.name}] leaves the column out"
        )
    # Each different text is looked at once, however many rows have it; they are in the order of their first rows.
    places, texts = pd.factorize(column if kind == "string" else column.astype(object).map(str, na_action="ignore"))
    codes, known = _stripped(places, pd.Series(texts, dtype=object), where, form)

    def in_rows(values: "pd.Series[Any]") -> "pd.Series[Any]":
        return values.reindex(codes).set_axis(column.index)

    folded = known.str.lower()
    if len(known) and folded.isin(list(_TRUE_FALSE)).all():
        return in_rows(folded.map(_TRUE_FALSE))
    if numbers is False or not len(known):
        return in_rows(known)
    found = _numbers(known, where, form)
    bad = known[found.isna()]
    if bad.empty:
        return _finite(in_rows(found), where, form)
    times = np.bincount(codes[codes >= 0], minlength=len(known))
    total, wrong, first = int(times.sum()), int(times[bad.index].sum()), row_of(codes == bad.index[0])
    share = 1 - wrong / total
    few = share > 0.5 and (share > _SHARE or len(bad) <= _MARKERS)
    bare = bad.str.replace(_SIGNS, r"\1", regex=True)
    elsewhere = bare.str.fullmatch("|".join(_OTHERWISE)) | pd.to_numeric(bare, errors="coerce").notna()
    if numbers or few or 0 < times[bad.index[elsewhere.to_numpy(dtype=bool)]].sum() > total / 2 - total * share:
        raise ValueError(
            f"{where} must hold numbers; row {first} below the header has {bad.iloc[0]!r}"
            f"{f', and {wrong} of {total} values are not numbers' * (wrong > 1)}{_hint(bad.iloc[0], form)}"
        )
    if share > 0.5:
        logger.info(
            "%s is text: row %d below the header has %r, though %d of %d values are numbers",
            *(where, first, bad.iloc[0], total - wrong, total),
        )
    elif share:
        number = found.first_valid_index()
        logger.info(
            "%s is text, though %d of %d values are numbers, the first %r in row %d below the header",
            *(where, total - wrong, total, known[number], row_of(codes == number)),
        )
    elif len(bad) > 10 and bad.str.fullmatch(_WITH_UNIT).mean() > 0.5:
        logger.warning(
            "%s is text: row %d below the header has %r, and a number with a unit or any other "
            "character is not a number",
            *(where, first, bad.iloc[0]),
        )
    return in_rows(known)


def _stripped(
    codes: Integers, texts: "pd.Series[Any]", where: str, form: TableFormat
) -> tuple[Integers, "pd.Series[Any]"]:
    """The different texts without blanks around them, and the place among them of each row's.

    What is nothing, or says so, is missing: its place is -1.
    """
    bare = texts.str.strip()
    if (changed := bare != texts).any():
        rows = changed.reindex(codes, fill_value=False)
        logger.info("%s: spaces around %d values are removed, the first in row %d", where, rows.sum(), row_of(rows))
    places, known = pd.factorize(bare.mask(bare.isin(["", *form.signs])))
    return np.append(places, -1)[codes], pd.Series(known, dtype=object)


def _numbers(known: "pd.Series[Any]", where: str, form: TableFormat) -> "pd.Series[Any]":
    """Texts as numbers, nan where they are none; if each of them has the same sign of currency, without it."""
    found = _as_written(known, form)
    if found.isna().all():
        bare = known.str.replace(_SIGNS, r"\1", regex=True)
        signs = known.str.extract(r"([$€£¥%])")[0]
        if (bare != known).all() and signs.nunique() == 1:
            found = _as_written(bare, form)
            if found.notna().all():
                logger.info("%s: %s is removed from every number", where, signs.iloc[0])
    return found


def _as_written(texts: "pd.Series[Any]", form: TableFormat) -> "pd.Series[Any]":
    if not form.is_plain:
        decimal, thousands = re.escape(form.decimal), re.escape(form.thousands or "")
        grouped = rf"|\d{{1,3}}(?:{thousands}\d{{3}})+" if thousands else ""
        pattern = rf"[-+]?(?:(?:\d+{grouped})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][-+]?\d+)?"
        plain = texts.str.replace(form.thousands, "", regex=False) if form.thousands else texts
        texts = plain.str.replace(form.decimal, ".", regex=False).where(texts.str.fullmatch(pattern))
    return pd.to_numeric(texts, errors="coerce")


def _finite(column: "pd.Series[Any]", where: str, form: TableFormat) -> "pd.Series[Any]":
    """The numbers as numpy has them, without those that stand for what is missing; whole ones stay whole unless some
    are missing.
    """
    try:
        values = column.to_numpy(dtype="float64", na_value=np.nan)
    except OverflowError as error:  # a whole number of more digits than any float has
        row = row_of(np.array([abs(int(value)) > LARGEST for value in column.fillna(0)]))
        raise ValueError(
            f"{where} holds a number in row {row} below the header that is too large for float32"
        ) from error
    if form.signs:
        values = np.where(np.isin(values, pd.to_numeric(pd.Series(form.signs), errors="coerce")), np.nan, values)
    if np.isinf(values).any():
        raise ValueError(f"{where} holds an infinite value in row {row_of(np.isinf(values))} below the header")
    if (large := np.abs(values) > LARGEST).any():
        row = row_of(large)
        raise ValueError(f"{where} holds {values[row - 1]:g} in row {row} below the header, too large for float32")
    if is_integer_dtype(column) and (is_rounded := np.abs(values) >= 2**53).any():
        row = row_of(is_rounded)
        logger.warning(
            "%s has %s in row %d below the header, of which only 16 digits are kept; if it is an id, ignore the column",
            *(where, column.iloc[row - 1], row),
        )
    whole = is_integer_dtype(column) and (np.abs(values) < 2**53).all()  # which NaN is not
    return pd.Series(column.to_numpy(dtype="int64") if whole else values, index=column.index)


def _hint(value: str, form: TableFormat) -> str:
    """How to read a number that is written in another format."""
    bare = _SIGNS.sub(r"\1", value)
    if options := next((options for pattern, options in _OTHERWISE.items() if re.fullmatch(pattern, bare)), ""):
        return f"; {options}"
    if form.decimal == "," and re.fullmatch(r"[-+]?\d*\.\d*", bare):
        return "; decimal is ',' here"
    if bare != value:
        return "; use the same currency sign with all numbers, or none"
    return f"; na_values={value!r} if it stands for a missing value"


def _refuse_total(table: pd.DataFrame, source: str) -> None:
    """Refuse a last row that sums up the rows above it."""
    above, last = table.iloc[:-1], table.iloc[-1]
    for name in table.columns.tolist() if len(above) > _MARKERS else ():
        value, where = last[name], f"{source}: the last row, {len(table)} below the header, "
        if isinstance(value, str):
            if _TOTAL.fullmatch(value) and not (above[name] == value).any():
                raise ValueError(f"{where}has {value!r} in column {name!r} and seems to sum up the rows above it")
        elif holds_numbers(table[name]) and len(above) > 10:
            sums_up = np.isclose(value, above[name].sum(), rtol=1e-9, atol=0)
            if sums_up and value > above[name].abs().max():
                raise ValueError(f"{where}is the sum of the rows above it in column {name!r}")


def differing_in_case(column: "pd.Series[Any]") -> tuple[str, str, int] | None:
    """Two texts of a column that look the same but for their case, and a row of the second.

    They differ in capitals, kinds of letters, blanks, or characters that are not seen.
    """
    seen: dict[str, str] = {}
    for text in map(str, column.dropna().unique()):
        letters = unicodedata.normalize("NFKC", text).casefold()
        folded = " ".join("".join(c for c in letters if c.isspace() or unicodedata.category(c)[0] != "C").split())
        if (first := seen.setdefault(folded, text)) != text:
            return first, text, row_of(column.map(str) == text)
    return None


def names_rows(column: "pd.Series[Any]") -> str:
    """Why a column seems to identify rows rather than describe them; empty if it does not."""
    if holds_numbers(column):
        is_id = is_integer_dtype(column) and _ID.search(str(column.name)) and len(column) > 10 and column.is_unique
        return IS_ID if is_id else ""
    distinct = column.nunique()
    return "nearly all distinct" if distinct > 10 and 2 * distinct > column.count() else ""
