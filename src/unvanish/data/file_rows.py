"""Rows of an array that stay in a file and are read batch by batch."""

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = slice | NDArray[np.integer[Any]] | Tensor


@final
class FileRows:
    """The rows of an array in a file, used in place of a tensor (N, ...) for data larger than memory.

    Indexing reads nothing; ``read`` and ``index_select`` read the chosen rows. The process releases its pages of the
    file after each read; the system keeps them in its cache as long as it has room.

    Args:
        path: The file, which must not be truncated while it is used.
        dtype: The type of its numbers.
        shape: (N, ...), in C order.
        offset: Bytes before the first number.
        transform: Applied to the rows (B, ...) after reading; None for no change.
    """

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        offset: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.transform = transform
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._array: NDArray[Any] = np.ndarray(shape, dtype, self._map, offset)
        self._rows: range | NDArray[np.integer[Any]] = range(shape[0])

    @classmethod
    def of_npy(cls, path: Path) -> Self:
        """The rows of an array saved by ``numpy.save``.

        Raises:
            ValueError: It is not such a file, is truncated, or is not a C-contiguous array of numbers.
        """
        try:
            found = np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            raise ValueError(f"{path}: {str(error) or 'not a NumPy file'}") from error
        if found.dtype.kind not in "biuf" or not found.flags.c_contiguous or not found.size or found.ndim < 1:
            raise ValueError(f"{path}: {found.dtype} {found.shape} is not a C-contiguous array of numbers")
        return cls(path, found.dtype, found.shape, found.offset)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"FileRows({self._array.dtype}, {[*self.shape]})"

    @property
    def shape(self) -> torch.Size:
        """(N, ...)."""
        return torch.Size((len(self), *self._array.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes that the rows have in the file."""
        return self._array.itemsize * self.shape.numel()

    def __getitem__(self, rows: Rows) -> "FileRows":
        """Some of the rows, still in the file."""
        found = object.__new__(FileRows)
        found.__dict__ |= self.__dict__
        if isinstance(rows, slice):
            found._rows = self._rows[rows]
        else:
            found._rows = np.asarray(self._rows)[np.asarray(rows)]
        return found

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Read some of the rows, as a tensor's ``index_select`` copies them; ``dim`` is 0."""
        assert dim == 0
        return self[rows].read()

    def read(self) -> Tensor:
        """All of the rows, in memory."""
        rows = self._rows
        # From all over the file the system would read on behind each row, which takes a hundred times as long.
        self._advise("MADV_NORMAL" if isinstance(rows, range) else "MADV_RANDOM")
        part = self._array[slice(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows]
        found = torch.from_numpy(np.array(part, dtype=part.dtype.newbyteorder("=")))
        self._advise("MADV_DONTNEED")
        return found if self.transform is None else self.transform(found)

    def _advise(self, how: str) -> None:
        if hasattr(mmap, how):  # not where the system takes no advice
            self._map.madvise(getattr(mmap, how))


def in_memory(rows: Tensor | FileRows) -> Tensor:
    """The rows as a tensor: a tensor is returned as it is, and rows of a file are read."""
    return rows.read() if isinstance(rows, FileRows) else rows
