"""Tokenizers: text to token numbers, and back."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from threading import Thread
from typing import Any, NamedTuple, Protocol, Self, final

from unvanish.extras import extra

PADDING, UNKNOWN = 0, 1
_RESERVED = 2
_NAMED = 10
_BYTES = 256
_LONGEST_WORD = 256  # bytes; the time of byte pairs grows by the square of it


class Tokenizer(Protocol):
    """Writes text as numbers from 0 to ``vocabulary_size - 1``; a padded one keeps 0 and 1 (padding, unknown) free."""

    @property
    def vocabulary_size(self) -> int:
        """How many numbers there are, the reserved ones among them."""

    def plain(self) -> dict[str, Any]:
        """All that it knows, in what a checkpoint and JSON hold."""

    def encode(self, text: str) -> list[int]:
        """The numbers of a text.

        Raises:
            ValueError: The text cannot be written in this vocabulary.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of numbers, without padding."""


class Unit(NamedTuple):
    """The unit that a `ListTokenizer` cuts texts into, and the text it puts between two tokens when decoding."""

    name: str
    cut: Callable[[str], Sequence[str]]
    joint: str


@cache
def _splitter() -> Any:
    return extra("tokenizers").pre_tokenizers.Whitespace()


def _words(text: str) -> list[str]:
    # Python's own \w lacks the combining marks, without which the words of many scripts fall apart.
    return [word for word, _ in _splitter().pre_tokenize_str(text.lower())]


CHARACTERS = Unit("characters", tuple, "")
WORDS = Unit("words", _words, " ")


def _quoted(text: str) -> str:
    """The text in quotation marks; characters that are not visible are escaped."""
    return repr(text) if text.isprintable() and text.strip() else ascii(text)


@final
class ListTokenizer:
    """Numbers the characters or the words of a text in alphabetical order, as nanoGPT does.

    Words are in lower case, and a run of punctuation is one too; decoded, they have one space between them.

    Args:
        texts: What the vocabulary is learnt from.
        unit: CHARACTERS or WORDS.
        size: The largest vocabulary; the most frequent stay. None: all.
        padded: Reserve numbers for padding and for what the vocabulary lacks. What occurs only once is left out, so
            that training meets the unknown too. Otherwise text with anything unknown is refused.
    """

    def __init__(self, texts: Sequence[str], unit: Unit, size: int | None = None, *, padded: bool = False) -> None:
        counts = Counter(token for text in texts for token in unit.cut(text))
        known = [token for token in counts if counts[token] > 1] if padded else list(counts)
        known.sort(key=lambda token: (-counts[token], token))
        if size is not None:
            known = known[: size - _RESERVED * padded]
        self.unit = unit
        self.padded = padded
        self._tokens = ["", "\N{REPLACEMENT CHARACTER}"] * padded + sorted(known)
        self._ids = {token: index for index, token in enumerate(self._tokens) if index >= _RESERVED * padded}

    @classmethod
    def of(cls, unit: Unit, tokens: list[str], *, padded: bool) -> Self:
        """A tokenizer with these tokens, which include the reserved ones."""
        self = cls([], unit, padded=padded)
        self._tokens = tokens
        self._ids = {token: index for index, token in enumerate(tokens) if index >= _RESERVED * padded}
        return self

    def plain(self) -> dict[str, Any]:
        """All that it knows, in what a checkpoint and JSON hold."""
        return {"unit": self.unit.name, "tokens": self._tokens, "padded": self.padded}

    @property
    def vocabulary_size(self) -> int:
        """How many numbers there are, the reserved ones among them."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """The numbers of a text.

        Raises:
            ValueError: The vocabulary lacks some of it, and has no number for the unknown.
        """
        tokens = self.unit.cut(text)
        if self.padded:
            return [self._ids.get(token, UNKNOWN) for token in tokens]
        try:
            return [self._ids[token] for token in tokens]
        except KeyError:
            lacking = sorted(set(tokens) - self._ids.keys())
            named = ", ".join(map(_quoted, lacking[:_NAMED]))
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            raise ValueError(f"the vocabulary of {self.vocabulary_size} {self.unit.name} lacks {named}{more}") from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of numbers, without padding."""
        return self.unit.joint.join(self._tokens[index] for index in ids if not (self.padded and index == PADDING))


def _interruptible(work: Callable[[], object]) -> None:
    """Run long work of a library that ignores Ctrl-C in a thread, so that the main thread can be interrupted."""
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    done.result()


@final
class BytePairTokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) over bytes, as GPT-2 has it: every text can be written and read back.

    Args:
        texts: What the merges are learnt from; a pair that occurs once is not merged.
        size: The largest vocabulary: 256 bytes, then merges, while the texts give any.
        padded: Reserve numbers for padding and the unknown, though to bytes nothing is unknown.

    Raises:
        ValueError: ``size`` has no room for the bytes.
    """

    def __init__(self, texts: Sequence[str], size: int, *, padded: bool = False) -> None:
        self._reserved = _RESERVED * padded
        least = _BYTES + self._reserved
        if size < least:
            raise ValueError(f"a bpe vocabulary of {size} is too small; the bytes alone are {least}")
        library = extra("tokenizers")
        split = library.pre_tokenizers
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - self._reserved,
            min_frequency=2,
            initial_alphabet=sorted(split.ByteLevel.alphabet()),
            show_progress=False,
        )
        self._library = library.Tokenizer(library.models.BPE())
        bounded = split.Split(library.Regex(f".{{{_LONGEST_WORD}}}"), "isolated")
        self._library.pre_tokenizer = split.Sequence([split.ByteLevel(add_prefix_space=False), bounded])
        self._library.decoder = library.decoders.ByteLevel()
        _interruptible(lambda: self._library.train_from_iterator(texts, trainer))

    @classmethod
    def of(cls, library: str, *, padded: bool) -> Self:
        """A tokenizer from the text that the library has saved it as."""
        self = cls.__new__(cls)
        self._reserved, self._library = _RESERVED * padded, extra("tokenizers").Tokenizer.from_str(library)
        return self

    def plain(self) -> dict[str, Any]:
        """All that it knows, in what a checkpoint and JSON hold."""
        return {"library": self._library.to_str(), "padded": bool(self._reserved)}

    @property
    def vocabulary_size(self) -> int:
        """How many numbers there are, the reserved ones among them."""
        return int(self._library.get_vocab_size()) + self._reserved

    def encode(self, text: str) -> list[int]:
        """The numbers of a text.

        Raises:
            ValueError: The text holds half a surrogate pair, which no file in UTF-8 does.
        """
        text.encode()  # what UTF-8 cannot hold is a TypeError to the library
        return [index + self._reserved for index in self._library.encode(text).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of numbers, without padding; a cut character reads as U+FFFD."""
        return str(self._library.decode([index - self._reserved for index in ids if index >= self._reserved]))


def tokenizer_from_plain(plain: Mapping[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from the values of its ``plain``."""
    if "library" in plain:
        return BytePairTokenizer.of(plain["library"], padded=plain["padded"])
    unit = next(unit for unit in (CHARACTERS, WORDS) if unit.name == plain["unit"])
    return ListTokenizer.of(unit, plain["tokens"], padded=plain["padded"])
