"""Encodes texts as x."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from unvanish.data.encoding import Encoded
from unvanish.data.tokenizers import PADDING, Tokenizer, tokenizer_from_plain


@final
@dataclass(frozen=True)
class Texts:
    """Encodes texts as tokens (N, T).

    Args:
        tokenizer: The tokenizer.
        max_length: T.
    """

    tokenizer: Tokenizer
    max_length: int

    def __call__(self, inputs: Any) -> Encoded:
        """Encode texts; longer ones are cut."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("the network takes texts")
        return Encoded(self.coded(texts)[0], {})

    def coded(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """The texts as x (N, T), and how many of them are cut."""
        x, cut = np.full((len(texts), self.max_length), PADDING), 0
        for row, text in zip(x, texts, strict=True):
            ids = self.tokenizer.encode(text)
            cut += len(ids) > self.max_length
            row[: len(ids)] = ids[: self.max_length]
        return torch.from_numpy(x), cut

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and JSON."""
        return {"tokenizer": self.tokenizer.plain(), "max_length": self.max_length}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild it from the values of ``plain``."""
        return cls(tokenizer_from_plain(plain["tokenizer"]), plain["max_length"])
