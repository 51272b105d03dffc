"""Texts to classify, from a file of texts and labels."""

import csv
import logging
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.data.columns import differing_in_case
from unvanish.data.encoding import Encoding
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.splits import Integers, split
from unvanish.data.text import read_text
from unvanish.data.text_encoding import Texts
from unvanish.data.tokenizers import CHARACTERS, PADDING, WORDS, BytePairTokenizer, ListTokenizer, Tokenizer
from unvanish.names import lookup, nearest

logger = logging.getLogger(__name__)

# In tab-separated files quotation marks are characters like any other; read as quotes they swallow whole rows.
READERS: dict[str, dict[str, Any]] = {".csv": {"sep": ","}, ".tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}}
TOKENIZERS = {"word": WORDS, "character": CHARACTERS, "bpe": None}
_LONGEST_LABEL = 40


@dataclass(frozen=True)
class _Layout:
    """The positions of text and label in ``path``, from 0, and the names of its columns if it has a header."""

    path: str
    text: int
    label: int
    names: list[str] | None

    def column(self, rows: pd.DataFrame, what: str, path: str) -> list[str]:
        """The texts or the labels of a file with this layout, or of a file with texts only."""
        position, where = (self.text if what == "text" else self.label), ""
        if self.names is not None:
            position, where = _position(rows, self.names[position], path), " below the header"
            rows = rows.iloc[1:]
        elif what == "text" and rows.shape[1] == 1:
            position = 0
        column = rows[_position(rows, position, path)].fillna("").str.strip()
        if not len(column):
            raise ValueError(f"{path}: no rows")
        missing = np.flatnonzero(column == "")
        if missing.size:
            raise ValueError(f"{path}: {missing.size} rows have no {what}, the first is row {missing[0] + 1}{where}")
        return column.tolist()

    def swallowed(self, texts: list[str], labels: list[str]) -> int | None:
        """The first text with a line that ends, or begins, like a row with a label; None if there is none."""
        after = self.label > self.text
        ends, begins = tuple(f",{label}" for label in labels), tuple(f"{label}," for label in labels)
        for row, text in enumerate(texts):
            lines = text.splitlines()
            if any(line.endswith(ends) for line in lines[:-1] if after) or any(
                line.startswith(begins) for line in lines[1:] if not after
            ):
                return row
        return None


class _Loaded(NamedTuple):
    """Everything that is read from the files."""

    description: Description
    tokenizer: Tokenizer
    splits: Splits


@final
class LabelledText(InMemoryData):
    """Texts to classify: x is (B, max_length) tokens, padded at the end with 0; 1 stands for unknown tokens.

    The vocabulary is learnt from the training rows alone. Class names are the sorted labels; of two labels the second
    is the positive one of a binary task. Labels keep their share in every split.

    Args:
        path: A .csv or .tsv file in UTF-8. In .tsv, quotation marks are characters like any other.
        text: The column of texts, by name or by position from 0. With two columns it is found automatically.
        label: The column of labels, likewise: of two columns, the one with few distinct, short values.
        header: Whether the first row names the columns. None: it does where ``text`` or ``label`` is a name, or where
            its label never comes again.
        tokenizer: word (lower case), character, or bpe (byte pairs).
        vocabulary: The largest vocabulary; the most frequent tokens stay, of words and characters those seen twice.
        max_length: Tokens in x. Longer texts are cut at the end.
        test_path: A separate file to test on, with the same columns as ``path``.
        predict_path: A file of new texts to predict, likewise; it needs no labels. Without it the test split is
            predicted.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a file holds no such texts and labels.
        FileNotFoundError: There is no such file (on first use).
    """

    def __init__(
        self,
        path: str,
        text: int | str | None = None,
        label: int | str | None = None,
        header: bool | None = None,
        tokenizer: Literal["word", "character", "bpe"] = "word",
        vocabulary: int = 10_000,
        max_length: PositiveInt = 128,
        test_path: str | None = None,
        predict_path: str | None = None,
        loading: Loading = Loading(),
    ) -> None:
        check_bounds(LabelledText, locals())
        super().__init__(loading, unused=["test_share"] * (test_path is not None))
        for file in (path, test_path, predict_path):
            if file is not None:
                lookup("kind of file", Path(file).suffix, READERS)
        if vocabulary < 3:
            raise ValueError(f"vocabulary is {vocabulary}; it must be at least 3")
        for name, column in (("text", text), ("label", label)):
            if isinstance(column, str) and header is False:
                raise ValueError(f"{name} is the name {column!r}, but header is false: give its position")
        self.path = path
        self.text = text
        self.label = label
        self.header = header
        self.unit = lookup("tokenizer", tokenizer, TOKENIZERS)
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.test_path = test_path
        self.predict_path = predict_path

    @property
    def description(self) -> Description:
        """Known from the file, which is read on first use."""
        return self._loaded.description

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which is always the same for the same training rows."""
        return self._loaded.tokenizer

    @property
    def encoding(self) -> Encoding:
        """The encoding of texts by the tokenizer."""
        return Texts(self.tokenizer, self.max_length)

    def read(self) -> Splits:
        """From the files."""
        return self._loaded.splits

    @cached_property
    def _loaded(self) -> _Loaded:
        rows = _rows(self.path)
        layout = _layout(rows, self.path, self.text, self.label, self.header)
        texts, labels = layout.column(rows, "text", self.path), layout.column(rows, "label", self.path)
        class_names = _sorted(set(labels))
        if len(class_names) < 2:
            raise ValueError(f"{self.path}: only one label, {_short(class_names[0])}")
        if pair := differing_in_case(pd.Series(labels)):
            raise ValueError(
                f"{self.path}: labels {pair[0]!r} and {pair[1]!r}, the latter in row {pair[2]}, differ only in case"
            )
        if (swallowed := layout.swallowed(texts, class_names)) is not None:
            raise ValueError(
                f"{self.path}: the text of row {swallowed + 1} contains other rows; is a quotation mark unpaired?"
            )
        names = [f"{self.path}, label {_short(name)}" for name in class_names]
        groups = _groups(labels, class_names)
        shares = [self.loading.validation_share]
        if self.test_path is None:
            shares.append(self.loading.test_share)
        parts = split(groups, names, shares, self.loading.split_seed)

        known = [texts[row] for row in parts[0]]
        tokenizer: Tokenizer
        if self.unit is None:
            tokenizer = BytePairTokenizer(known, self.vocabulary, padded=True)
        else:
            tokenizer = ListTokenizer(known, self.unit, self.vocabulary, padded=True)
        binary = len(class_names) == 2
        dtype = torch.float32 if binary else torch.int64
        x, y = self._coded(tokenizer, texts, self.path), torch.tensor(groups, dtype=dtype)
        train, validation, *rest = ((x[part], y[part]) for part in parts)
        test = rest[0] if rest else ()
        if self.test_path is not None:
            rows = _rows(self.test_path)
            texts, labels = layout.column(rows, "text", self.test_path), layout.column(rows, "label", self.test_path)
            _refuse_new(labels, class_names, self.test_path, self.path)
            y = torch.tensor(_groups(labels, class_names), dtype=dtype)
            test = self._coded(tokenizer, texts, self.test_path), y
        predict: tuple[Tensor, ...] = ()
        if self.predict_path is not None:
            texts = layout.column(_rows(self.predict_path), "text", self.predict_path)
            predict = (self._coded(tokenizer, texts, self.predict_path),)
        description = Description(
            "binary" if binary else "multiclass",
            (self.max_length,),
            1 if binary else len(class_names),
            class_names,
            vocabulary_size=tokenizer.vocabulary_size,
            padding_index=PADDING,
        )
        numbers = parts[2].tolist() if rest and not predict else []
        return _Loaded(description, tokenizer, Splits(train, validation, test, predict, numbers))

    def _coded(self, tokenizer: Tokenizer, texts: list[str], path: str) -> Tensor:
        """The texts of a file as x (N, max_length)."""
        x, cut = Texts(tokenizer, self.max_length).coded(texts)
        if cut:
            logger.info("%s: %d of %d texts are cut to max_length %d", path, cut, len(texts), self.max_length)
        return x


def _rows(path: str) -> pd.DataFrame:
    """All rows of a file as text, the header among them, and columns numbered from 0."""
    text = read_text(path)
    options: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False}
    try:
        rows: pd.DataFrame = pd.read_csv(StringIO(text), **options, **READERS[Path(path).suffix])
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"cannot read {path}: {reason}") from error
    return rows


def _position(rows: pd.DataFrame, column: int | str, path: str) -> int:
    """The position of a column that is given by position or by its name in the first row."""
    width = rows.shape[1]
    if isinstance(column, str):
        names = rows.iloc[0].tolist()
        if column not in names:
            raise ValueError(f"{path}: no column {column!r}{nearest(column, names)}")
        if names.count(column) > 1:
            raise ValueError(f"{path}: {names.count(column)} columns are called {column!r}")
        return names.index(column)
    if not 0 <= column < width:
        raise ValueError(f"{path}: no column {column}; it has {width}, counted from 0")
    return column


def _layout(
    rows: pd.DataFrame, path: str, text: int | str | None, label: int | str | None, header: bool | None
) -> _Layout:
    """The layout that was given, with the missing parts guessed if they are unambiguous."""
    width = rows.shape[1]
    if width < 2:
        raise ValueError(f"{path}: texts and labels need two columns, it has one")
    if width > 2 and (text is None or label is None):
        raise ValueError(f"{path} has {width} columns; give both text and label, by name or by position from 0")
    named = isinstance(text, str) or isinstance(label, str)
    guessed = text is None or label is None or (header is None and not named)
    at_text, at_label = (None if column is None else _position(rows, column, path) for column in (text, label))
    if at_label is None:
        at_label = _guess(rows, path) if at_text is None else 1 - at_text
    if at_text is None:
        at_text = 1 - at_label
    if at_text == at_label:
        raise ValueError(f"{path}: text and label are the same column, {at_text}")
    first, *others = rows[at_label].tolist()
    if header is None:
        header = named or first not in others
    if guessed:
        is_header = "a header" if header else "no header"
        logger.info(
            "%s: text is column %d, label is column %d, the first row is %s", path, at_text, at_label, is_header
        )
    return _Layout(path, at_text, at_label, rows.iloc[0].tolist() if header else None)


def _guess(rows: pd.DataFrame, path: str) -> int:
    """Guess which of two columns holds labels: the one with short values that occur at least three times on average."""
    below = rows.iloc[1:]
    few = [
        position
        for position, column in enumerate(below[name] for name in below)
        if column.nunique() <= len(below) // 3 and column.str.len().max() <= _LONGEST_LABEL
    ]
    if len(few) != 1:
        raise ValueError(
            f"{path}: it is not clear which column holds the label; give label, by name or by position from 0"
        )
    return few[0]


def _groups(labels: list[str], class_names: list[str]) -> Integers:
    """The number of each label, in the order of the class names."""
    numbers = {name: number for number, name in enumerate(class_names)}
    return np.array([numbers[label] for label in labels])


def _refuse_new(labels: list[str], class_names: list[str], path: str, known_from: str) -> None:
    for row, label in enumerate(labels, start=1):
        if label not in class_names:
            hint = nearest(label, class_names)
            raise ValueError(f"{path}: label {_short(label)} of row {row} is not in {known_from}{hint}")


def _sorted(labels: set[str]) -> list[str]:
    """Sort labels, as numbers if all of them are."""
    numbers = all(label.removeprefix("-").isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label), label) if numbers else (0, label))


def _short(label: str) -> str:
    return repr(label if len(label) <= _LONGEST_LABEL else label[:_LONGEST_LABEL] + "...")
