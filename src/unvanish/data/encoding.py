"""Encodes new rows, texts, images or a series as x. Encodings are stored as plain values in checkpoints.

Shapes: N samples, F features, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple, Protocol, Self, final

import numpy as np
import torch
from torch import Tensor

from unvanish.data.loading import Description

#: The column of the true value, beside the predictions.
TRUTH = "truth"


class Encoded(NamedTuple):
    """Encoded samples.

    Args:
        x: The input of the network, (N, *input_shape).
        carried: Columns to put beside the predictions: ids and, if it is known, the truth.
        base: (N, D) values to add to predictions that are changes; None if they are not.
        rows: The name of each sample; if empty, samples are numbered from 0.
    """

    x: Tensor
    carried: Mapping[str, Sequence[Any]]
    base: Tensor | None = None
    rows: Sequence[Any] = ()


class Encoding(Protocol):
    """Turns inputs of one kind into x."""

    def __call__(self, inputs: Any) -> Encoded:
        """Encode.

        Raises:
            ValueError: The inputs are of another kind, or lack something.
        """

    def plain(self) -> dict[str, Any]:
        """All that it knows, in what a checkpoint and JSON hold."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The other way."""


@final
@dataclass(frozen=True)
class Arrays:
    """Takes arrays (N, *input_shape), as they are or scaled.

    Args:
        input_shape: Axes of one sample.
        is_whole: Whether they hold tokens, whole numbers.
        mean: The value to subtract, which broadcasts to a sample; None for no scaling.
        std: The value to divide by afterwards.
    """

    input_shape: list[int]
    is_whole: bool = False
    mean: list[Any] | None = None
    std: list[Any] | None = None

    def __call__(self, inputs: Any) -> Encoded:
        """Encode an array."""
        x = torch.as_tensor(np.asarray(inputs)).to(torch.int64 if self.is_whole else torch.float32)
        if list(x.shape[1:]) != self.input_shape:
            raise ValueError(f"the network takes arrays (N, {', '.join(map(str, self.input_shape))}), not {[*x.shape]}")
        if self.mean is not None:
            x = (x - torch.tensor(self.mean)) / torch.tensor(self.std)
        return Encoded(x, {})

    def plain(self) -> dict[str, Any]:
        """All that it knows."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The other way."""
        return cls(**plain)


#: The module of each kind of encoding, imported only when that kind is used.
_KINDS = {
    "Arrays": "unvanish.data.encoding",
    "Table": "unvanish.data.table_encoding",
    "TimeTable": "unvanish.data.series_encoding",
    "Texts": "unvanish.data.text_encoding",
    "Pictures": "unvanish.data.picture_encoding",
}


@final
class Known:
    """What a trained network must know about its data in order to predict.

    Args:
        description: The task, the classes, the units.
        encoding: The encoding of its inputs.
    """

    def __init__(self, description: Description, encoding: Encoding) -> None:
        self.description, self.encoding = description, encoding

    def plain(self) -> dict[str, Any]:
        """In what a checkpoint and JSON hold."""
        found = self.description
        lists = {
            name: None if value is None else value.tolist()
            for name, value in (("target_mean", found.target_mean), ("target_std", found.target_std))
        }
        described = {**vars(found), **lists, "input_shape": [*found.input_shape]}
        return {"description": described, "kind": type(self.encoding).__name__, "encoding": self.encoding.plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The other way."""
        described = plain["description"]
        mean, std = (described[name] for name in ("target_mean", "target_std"))
        description = replace(
            Description(**described),
            input_shape=tuple(described["input_shape"]),
            target_mean=None if mean is None else torch.tensor(mean),
            target_std=None if std is None else torch.tensor(std),
        )
        kind: type[Encoding] = getattr(import_module(_KINDS[plain["kind"]]), plain["kind"])
        return cls(description, kind.from_plain(plain["encoding"]))

    def in_units(self, outputs: Tensor, encoded: Encoded) -> Tensor:
        """Outputs of a regression network, (N, D), in the units of the targets."""
        found = self.description
        if found.target_std is not None and found.target_mean is not None:
            outputs = outputs * found.target_std + found.target_mean
        return outputs if encoded.base is None else (outputs.double() + encoded.base).float()
