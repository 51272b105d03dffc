"""What turns texts into x."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch

from unvanish.data.encoding import Encoded
from unvanish.data.tokenizers import PADDING, Tokenizer, tokenizer_from_plain


@final
@dataclass(frozen=True)
class Texts:
    """Takes texts.

    Args:
        tokenizer: What cuts and numbers them.
        max_length: T.
    """

    tokenizer: Tokenizer
    max_length: int

    def __call__(self, inputs: Any) -> Encoded:
        """Encode texts; longer ones are cut."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("the network takes texts")
        x = np.full((len(texts), self.max_length), PADDING)
        for row, text in zip(x, texts, strict=True):
            ids = self.tokenizer.encode(text)[: self.max_length]
            row[: len(ids)] = ids
        return Encoded(torch.from_numpy(x), {})

    def plain(self) -> dict[str, Any]:
        """All that it knows."""
        return {"tokenizer": self.tokenizer.plain(), "max_length": self.max_length}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The other way."""
        return cls(tokenizer_from_plain(plain["tokenizer"]), plain["max_length"])
