"""What tells a run's data from others."""

import zlib
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch

from unvanish.data import FileRows

#: Rows of a file.
_SUMMED = 64


def identity_of(data: L.LightningDataModule) -> str:
    """What tells data from others: the training tensors' shapes and a checksum; empty where there are none to see.

    Of rows that stay in a file some are summed up, evenly spaced.
    """
    splits = getattr(data, "splits", None)
    return " ".join(_sums(getattr(splits, "train", ())))


def _sums(tensors: Any) -> Iterator[str]:
    for tensor in tensors:
        shape = getattr(tensor, "shape", ())
        some = tensor[:: -(-len(tensor) // _SUMMED)].read() if isinstance(tensor, FileRows) else tensor
        if isinstance(some, torch.Tensor):
            numbers = some.detach().cpu().contiguous()
            is_plain = numbers.numel() > 0 and numbers.dim() > 0
            checksum = zlib.crc32(numbers.view(torch.uint8).numpy().data) if is_plain else 0
            yield f"{tuple(shape)}:{checksum:08x}"
