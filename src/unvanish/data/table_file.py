"""Reads a table from a file if every row has as many fields as the header, and refuses it in one line otherwise."""

import csv
import gzip
import logging
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from unvanish.data.table_rows import DELIMITERS, checked
from unvanish.extras import extra

logger = logging.getLogger(__name__)

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": None}  # with what parts the fields
_UNPACKED = 100  # times its size may a compressed file grow, or up to this many bytes:
_SMALL = 100_000_000
_PART = 2**18  # rows
_UNNAMED = "column "
_ZEROS = re.compile(rb"(?<![\w.:/+-])0[0-9]{2,}(?![\w.:/-])")  # not 04, a month
_THOUSANDS = (",", ".", " ", "'", "_", "\u2019", "\xa0", "\u202f")


@dataclass(frozen=True)
class TableFormat:
    """The format of a table file; in Parquet ``decimal`` and ``thousands`` apply to texts only.

    Args:
        delimiter: The character between two fields; None for a comma, or a tab in .tsv.
        decimal: The decimal separator, a point or a comma.
        thousands: The thousands separator.
        encoding: The text encoding.
        na_values: Texts or numbers that mean a missing value, besides those of pandas (empty, NA, ...).

    Raises:
        ValueError: An option has a value that is not allowed.
    """

    delimiter: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"
    na_values: list[str] | str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(f"delimiter must be one character, not {self.delimiter!r}")
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal must be '.' or ',', not {self.decimal!r}")
        if self.thousands is not None and (self.thousands == self.decimal or self.thousands not in _THOUSANDS):
            raise ValueError(f"thousands must be a blank or one of . , ' _ and not the decimal, not {self.thousands!r}")
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"unknown encoding {self.encoding!r}") from error

    @property
    def signs(self) -> list[str]:
        """``na_values``, as a list."""
        return [self.na_values] if isinstance(self.na_values, str) else list(self.na_values or ())

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as pandas expects."""
        return self.decimal == "." and self.thousands is None


PLAIN = TableFormat()


def suffix_of(path: str) -> str:
    """The suffix of a file without that of compression, such as ``.csv``."""
    return Path(path.removesuffix(".gz")).suffix


def read_table(path: str, form: TableFormat = PLAIN, as_text: Collection[str] = ()) -> pd.DataFrame:
    """Read a file with at least one row and different column names.

    Args:
        path: A .csv, .tsv or .parquet file, also compressed by gzip.
        form: Its format.
        as_text: Columns to read as text, whatever they contain.

    Raises:
        ValueError: The file is not of the kind its name says, has no rows, or has rows that do not match the header.
        FileNotFoundError: There is no such file.
        MissingExtraError: Parquet is read by pyarrow, which is not installed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no {'regular ' if Path(path).exists() else ''}file {path}")
    if suffix_of(path) == ".parquet":
        extra("pyarrow")
    try:
        frame = _read_parquet(path) if suffix_of(path) == ".parquet" else _read_delimited(path, form, as_text)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # pyarrow, zlib and csv raise many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read {path}: {reason}") from error
    if not len(frame):
        raise ValueError(f"{path}: no rows")
    return frame


def column_names(path: str) -> list[str]:
    """The names of a file's columns, read from its first line only; the delimiter is the most frequent one in it.

    Raises:
        OSError: It cannot be read.
        MissingExtraError: Parquet is read by pyarrow, which is not installed.
    """
    if suffix_of(path) == ".parquet":
        extra("pyarrow")
        from pyarrow import parquet

        return [str(name) for name in parquet.read_schema(path).names]
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
    delimiter = max(DELIMITERS, key=header.count)
    return [name.strip() for row in csv.reader([header], delimiter=delimiter) for name in row]


def _read_parquet(path: str) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    levels = [name for name in frame.index.names if name is not None]
    if levels or isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index()
    frame.columns = pd.Index(list(map(str, frame.columns)))
    _refuse_repeated(frame.columns.tolist())
    _refuse_broken_text(frame)
    return frame.reset_index(drop=True)


def _refuse_broken_text(frame: pd.DataFrame) -> None:
    """Refuse texts that are not UTF-8, which pyarrow does not check."""
    import pyarrow as pa

    for name in [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]:
        try:
            pa.array(frame[name]).validate(full=True)
        except pa.ArrowInvalid as error:
            reason = str(error).partition(": ")[2] or str(error)
            raise ValueError(f"column {name!r} holds text that is not UTF-8 ({reason[:80]!r})") from error


def _read_delimited(path: str, form: TableFormat, as_text: Collection[str]) -> pd.DataFrame:
    content = _in_utf8(_unpacked(path), form.encoding)
    delimiter = form.delimiter or SUFFIXES[suffix_of(path)] or ","
    header, rows = checked(content, delimiter)
    names = [name.strip() or f"{_UNNAMED}{place}" for place, name in enumerate(header, start=1)]
    _refuse_repeated(names)
    if not content.endswith((b"\n", b"\r")):
        logger.info(
            "%s: row %d below the header, the last one, ends without a line break; is the file complete?", path, rows
        )
    dtype: Any = {name: str for name in as_text if name in names} if form.is_plain else str
    options = {"sep": delimiter, "header": 0, "names": names, "index_col": False, "dtype": dtype}
    options |= {"na_values": form.signs, "low_memory": False}
    parts = _parts(content, options)
    if not all(_is_alike({str(part[name].dtype) for part in parts}) for name in names):
        parts = [pd.read_csv(BytesIO(content), **options)]
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    del parts
    _say_zeros(content, frame, options, path)
    del content
    if len(frame) != rows:
        raise ValueError(f"{rows} rows by one count and {len(frame)} by another; is a quotation mark unpaired?")
    return _without_unnamed(frame, path)


def _parts(content: bytes, options: dict[str, Any]) -> list[pd.DataFrame]:
    """Read the rows in parts; reading them all at once would take several times the memory of the file."""
    with pd.read_csv(BytesIO(content), chunksize=_PART, **options) as reader:
        return [*reader] or [pd.DataFrame(columns=options["names"])]


def _is_alike(types: set[str]) -> bool:
    """Whether a column that was read in parts has the same values as if it had been read at once."""
    return len(types) == 1 or types == {"int64", "float64"}


def _say_zeros(content: bytes, frame: pd.DataFrame, options: dict[str, Any], path: str) -> None:
    """Log whole numbers that are written like ids, such as 00501, and are read as 501."""
    if not _ZEROS.search(content):
        return
    names = [str(name) for name in frame if is_integer_dtype(frame[name])]
    texts = pd.read_csv(BytesIO(content), **options | {"dtype": str, "usecols": names}) if names else frame[[]]
    for name in texts:
        if (led := texts[name].str.strip().str.match(r"0\d\d")).any():
            row = int(led.to_numpy(dtype=bool).argmax())
            logger.info(
                "%s: column %r has %r in row %d below the header, which is read as %d; if it is an "
                "id, list it among categories",
                *(path, name, texts[name].iloc[row], row + 1, frame[name].iloc[row]),
            )


def _unpacked(path: str) -> bytes:
    if not path.endswith(".gz"):
        return Path(path).read_bytes()
    most = max(_UNPACKED * Path(path).stat().st_size, _SMALL)
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"the compressed file is cut or damaged ({error})") from error
    if len(content) > most:
        raise ValueError(f"it unpacks to more than {_UNPACKED} times its size; unpack it first")
    return content


def _in_utf8(content: bytes, encoding: str) -> bytes:
    """The text in UTF-8, without a byte order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) and encoding == "utf-8":
        raise ValueError("it begins like UTF-16, not UTF-8; give encoding=utf-16")
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not {encoding}: {error.reason}, byte 0x{content[error.start]:02x}; give its encoding, "
            "such as encoding=cp1252"
        ) from error
    content = content.removeprefix(BOM_UTF8) if is_utf8 else text.encode()
    if (place := content.find(b"\0")) >= 0:
        raise ValueError(f"a NUL character in line {content.count(10, 0, place) + 1}")
    return content


def _refuse_repeated(names: list[str]) -> None:
    for place, name in enumerate(names):
        if (before := names.index(name)) < place:
            raise ValueError(f"columns {before + 1} and {place + 1} are both called {name!r}")


def _without_unnamed(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    """Drop unnamed columns: the row labels of pandas, and what a delimiter at the end of every row makes."""
    dropped = []
    for name in [name for name in frame.columns.tolist() if name.startswith(_UNNAMED)]:
        labels = np.arange(len(frame))
        if frame[name].notna().any() and not np.array_equal(pd.to_numeric(frame[name], errors="coerce"), labels):
            raise ValueError(f"{name} has no name in the header")
        dropped.append(name)
    if dropped:
        logger.info("%s: unnamed columns that are empty or number the rows are left out: %s", path, ", ".join(dropped))
    return frame.drop(columns=dropped)
