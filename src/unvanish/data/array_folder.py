"""NumPy arrays of any size."""

import logging
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from unvanish.data.augmentation import PixelScale
from unvanish.data.encoding import Arrays, Encoding
from unvanish.data.file_rows import FileRows
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.splits import Integers, split

logger = logging.getLogger(__name__)

#: Rows, and bytes of them as float32, from which x is scaled.
_SAMPLE, _SAMPLE_BYTES = 4096, 2**28


@final
class ArrayFolder(InMemoryData):
    """Arrays of your own, as ``numpy.save`` writes them: a folder with x.npy, (N, ...), and y.npy.

    x stays in its file and is read one batch at a time, so it may be larger than memory; y, and 8 bytes a row for the
    order of an epoch, are in memory. If y holds whole numbers, (N,) from 0, these are classes, and two classes make a
    binary task; other numbers, (N,) or (N, D), are the targets of a regression. The splits are random and stratified by
    class.

    Args:
        path: The folder.
        scale: Give each feature, the last axis of x, or each channel, the first one of samples with three axes or
            more, mean 0 and standard deviation 1 over 4,096 random rows to train on, or as many as take 256 MiB.
        predict_path: A file of rows to predict. Without it the test split is predicted.
        loading: How it is split and batched.

    Raises:
        ValueError: (on first use) An array cannot be used, or a row by which x is scaled is not finite.
        FileNotFoundError: (on first use) There is no such file.
    """

    def __init__(
        self,
        path: str | None = None,
        scale: bool = True,
        predict_path: str | None = None,
        loading: Loading = Loading(),
    ) -> None:
        super().__init__(loading)
        if path is None:
            raise ValueError("path is missing: the folder that holds x.npy and y.npy")
        self.path, self.scale, self.predict_path = path, scale, predict_path

    @property
    def description(self) -> Description:
        """Known from y and from the header of x, which are read on first use."""
        y, shape = self._y, tuple(self._x.shape[1:])
        if y.is_floating_point():
            std, mean = torch.std_mean(y[self._parts[0]], dim=0, correction=0)
            std = torch.where(std > 0, std, 1)
            return Description("regression", shape, y.shape[1], target_mean=mean.float(), target_std=std.float())
        names = [*map(str, range(int(y.max()) + 1))]
        binary = len(names) == 2
        return Description("binary" if binary else "multiclass", shape, 1 if binary else len(names), names)

    @property
    def encoding(self) -> Encoding:
        """The encoding of arrays like those of x.npy."""
        if self._scale is None:
            return Arrays([*self.input_shape])
        return Arrays([*self.input_shape], mean=self._scale.mean.tolist(), std=self._scale.std.tolist())

    def read(self) -> Splits:
        """Split y; of x only the rows by which it is scaled are read."""
        description, x = self.description, self._rows(Path(self.path) / "x.npy")
        y = self._y if description.task == "multiclass" else self._y.float()
        if description.target_mean is not None and description.target_std is not None:
            y = ((self._y - description.target_mean) / description.target_std).float()
        train, validation, test = ((x[rows], y[torch.from_numpy(rows)]) for rows in self._parts)
        logger.info(
            "%s: %d rows of %s, %.1f MiB, which stay in the file; %s",
            *(self.path, len(x), [*x.shape[1:]], x.nbytes / 2**20, self._how),
        )
        predict = (self._rows(Path(self.predict_path)),) if self.predict_path else ()
        return Splits(train, validation, test, predict)

    def _rows(self, path: Path) -> FileRows:
        """The rows of a file, scaled as the network gets them."""
        found = FileRows.of_npy(path)
        if found.shape[1:] != self._x.shape[1:]:
            raise ValueError(f"{path}: rows of {[*found.shape[1:]]}, where those of x.npy are {[*self._x.shape[1:]]}")
        transform: Callable[[Tensor], Tensor] = self._scale or Tensor.float
        found.transform = transform
        return found

    @cached_property
    def _x(self) -> FileRows:
        found = FileRows.of_npy(Path(self.path) / "x.npy")
        if len(found.shape) < 2:
            raise ValueError(
                f"{self.path}/x.npy: {[*found.shape]} has no axis besides that of its rows; reshape it to (N, 1)"
            )
        if len(found) != len(self._y):
            raise ValueError(f"{self.path}: {len(found)} rows in x.npy and {len(self._y)} in y.npy")
        return found

    @cached_property
    def _y(self) -> Tensor:
        """Classes, int64 (N,), or targets, float64 (N, D)."""
        where, found = f"{self.path}/y.npy", FileRows.of_npy(Path(self.path) / "y.npy").read()
        if found.is_floating_point():
            if bad := torch.nonzero(~found.reshape(len(found), -1).isfinite().all(dim=1)).flatten().tolist():
                raise ValueError(f"{where}: row {bad[0]} is not finite, and {len(bad) - 1} others are not")
            return found.double().reshape(len(found), -1)
        if found.dim() != 1 or found.min() < 0:
            raise ValueError(f"{where}: whole numbers are classes, (N,) from 0; targets of a regression must be floats")
        if not found.any():
            raise ValueError(f"{where}: all rows are of class 0; there is nothing to classify")
        return found.long()

    @cached_property
    def _parts(self) -> list[Integers]:
        """The rows of each split."""
        y = self._y
        groups = np.zeros(len(y), dtype=int) if y.is_floating_point() else y.numpy()
        names = (
            [f"{self.path}"] if y.is_floating_point() else [f"{self.path}, class {n}" for n in range(int(y.max()) + 1)]
        )
        shares = (self.loading.validation_share, self.loading.test_share)
        return split(groups, names, shares, self.loading.split_seed)

    @property
    def _sample(self) -> Integers:
        """The rows by which x is scaled, in file order; the training rows are shuffled already."""
        most = _SAMPLE_BYTES // (4 * math.prod(self._x.shape[1:]))
        return np.sort(self._parts[0][: max(1, min(_SAMPLE, most))])

    @cached_property
    def _scale(self) -> PixelScale | None:
        if not self.scale:
            return None
        rows = self._sample
        x = self._x[rows].read().double()
        if bad := torch.nonzero(~x.flatten(1).isfinite().all(dim=1)).flatten().tolist():
            raise ValueError(f"{self.path}/x.npy: row {rows[bad[0]]} is not finite")
        is_image = x.dim() > 3
        axes = (0, *range(2, x.dim())) if is_image else (*range(x.dim() - 1),)
        std, mean = torch.std_mean(x, dim=axes, correction=0, keepdim=True)
        return PixelScale(mean[0].float(), std[0].float())

    @property
    def _how(self) -> str:
        if not self.scale:
            return "not scaled"
        of = "channel" if len(self.input_shape) > 2 else "feature"
        return f"each {of} is scaled by {len(self._sample)} of the rows to train on"
