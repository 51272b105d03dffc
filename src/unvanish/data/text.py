"""Running text, of which a network predicts the next token."""

from functools import cached_property
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.data.loader import BatchLoader
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.tokenizers import CHARACTERS, BytePairTokenizer, ListTokenizer, Tokenizer
from unvanish.names import lookup


class _Corpus(NamedTuple):
    """The tokenizer, and the tokens of each split, (N,) int64; ``test`` may be empty."""

    tokenizer: Tokenizer
    train: Tensor
    validation: Tensor
    test: Tensor


@final
class Text(InMemoryData):
    """Windows of a text: x is (B, context_length) tokens, y the same one token further on.

    The text is split in its own order: its beginning trains, then comes the validation split, and the end is the test
    split. No window reaches into another split. Those that validate or test follow one another without overlap; what
    is left at the end of a split, less than a window, is not used.

    A character vocabulary has every character of the file, in alphabetical order, as nanoGPT's has: that a character
    exists says nothing of what comes next, and without it the validation split could not be scored. All else, and all
    of ``bpe``, is learnt from the training split.

    Args:
        path: A text file in UTF-8. None: the English that comes with Python, half a megabyte on the language itself
            (it differs a little between versions).
        tokenizer: character, or bpe (byte pairs).
        vocabulary: The size of a bpe vocabulary, at least 256 (None: 1024); less if the text is too short for it.
        context_length: Tokens T in a window.
        stride: Tokens from the start of a training window to that of the next. None: ``context_length``, so that none
            overlap. 1: every window that there is, as nanoGPT draws them.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range, or (on first use) the file is no such text or too short.
        FileNotFoundError: There is no such file (on first use).
    """

    def __init__(
        self,
        path: str | None = None,
        tokenizer: Literal["character", "bpe"] = "character",
        vocabulary: int | None = None,
        context_length: PositiveInt = 64,
        stride: PositiveInt | None = None,
        loading: Loading = Loading(test_share=0.1),
    ) -> None:
        check_bounds(Text, locals())
        super().__init__(loading, unused=("split_seed",), needs_test=False)
        self.is_bpe = lookup("tokenizer", tokenizer, {"character": False, "bpe": True})
        if vocabulary is not None and not self.is_bpe:
            raise ValueError("vocabulary is for tokenizer bpe; characters are as many as the text has")
        if vocabulary is not None and vocabulary < 256:
            raise ValueError(f"vocabulary is {vocabulary}; it must be at least 256")
        self.path = path
        self.vocabulary = 1024 if vocabulary is None else vocabulary
        self.context_length = context_length
        self.stride = context_length if stride is None else stride

    @property
    def description(self) -> Description:
        """Known from the text, which is read on first use."""
        size = self.tokenizer.vocabulary_size
        return Description("next_token", (self.context_length,), size, vocabulary_size=size)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which is always the same for the same file."""
        return self._corpus.tokenizer

    @cached_property
    def _corpus(self) -> _Corpus:
        text = "\n".join(topics[name] for name in sorted(topics)) if self.path is None else read_text(self.path)
        tested = round(self.loading.test_share * len(text))
        share = 1 - self.loading.validation_share - self.loading.test_share
        trained = int(share * len(text))  # nanoGPT rounds down
        train, validation, test = text[:trained], text[trained : len(text) - tested], text[len(text) - tested :]
        tokenizer = BytePairTokenizer([train], self.vocabulary) if self.is_bpe else ListTokenizer([text], CHARACTERS)
        tokens = (torch.tensor(tokenizer.encode(part), dtype=torch.int64) for part in (train, validation, test))
        return _Corpus(tokenizer, *tokens)

    def read(self) -> Splits:
        """Cut the windows."""
        _, train, validation, test = self._corpus
        length = self.context_length
        shares = (1.0, self.loading.validation_share, self.loading.test_share)
        for name, share, tokens in zip(("training", "validation", "test"), shares, self._corpus[1:], strict=True):
            if share and len(tokens) <= length:
                raise ValueError(
                    f"{self.path or 'the text'}: the {name} split of {len(tokens)} tokens is too short for a window, "
                    f"which takes context_length + 1 = {length + 1}"
                )
        return Splits(
            _windows(train, length, self.stride),
            _windows(validation, length, length) if self.loading.validation_share else (),
            _windows(test, length, length) if self.loading.test_share else (),
        )

    def _loader(self, tensors: tuple[Any, ...], *, shuffle: bool = False) -> BatchLoader:
        if not tensors:
            raise ValueError("test_share is 0, so there is no test split")
        if self.trainer is not None and self.loading.device_resident:
            # Copied as they are, windows that overlap would each get their own memory.
            (count, length), stride = tensors[0].shape, tensors[0].stride(0)
            tokens = tensors[0].as_strided(((count - 1) * stride + length + 1,), (1,))
            tensors = _windows(tokens.to(self.trainer.strategy.root_device), length, stride)
        return super()._loader(tensors, shuffle=shuffle)


def _windows(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Cut x and y (windows, length), both views of the tokens (N,)."""
    both = tokens.unfold(0, length + 1, stride)
    return both[:, :-1], both[:, 1:]


def read_text(path: str) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        ValueError: The file is empty, or not in UTF-8.
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        text = Path(path).read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    if (place := text.find("\0")) >= 0:
        raise ValueError(f"{path} has a NUL character in line {text.count(chr(10), 0, place) + 1}")
    return text
