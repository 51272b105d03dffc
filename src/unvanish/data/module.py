"""The base class of data sets whose rows are batched by index, from memory or from a file."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property
from typing import Any, Never

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from unvanish.data.augmentation import UNCHANGED, Augmentation, PixelScale
from unvanish.data.encoding import Arrays, Encoding, Known
from unvanish.data.file_rows import FileRows, in_memory
from unvanish.data.loader import BatchLoader
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.splits import split


class InMemoryData(LightningDataModule, ABC):
    """Serves batches (x, y) of a data set; only the training batches are shuffled.

    x is float32 (B, *input_shape); y is float32 (B,) in {0, 1} for binary, int64 (B,) for multiclass, and float32
    (B, D) for regression, standardised by the training split. Of tokens, x is int64 (B, T), and for next_token y is
    int64 (B, T). A subclass describes the data and reads all at once, or leaves x in its file, as ``FileRows``. Images
    may stay bytes until they are on the network's device: a subclass then sets ``pixels`` when it reads, and the
    trainer's batches are scaled by it.

    Args:
        loading: How the data are cut into splits and batches.
        unused: Fields of ``loading`` that have no effect here, and are refused if they are set.
        needs_test: Whether a test split must be cut off.
        takes_counts: Whether shares may be numbers of rows; the subclass then checks their range.
        augmentation: How training images vary; needs ``pixels``.

    Raises:
        ValueError: A field without effect is set, or a share is out of its range.
    """

    def __init__(
        self,
        loading: Loading,
        *,
        unused: Collection[str] = (),
        needs_test: bool = True,
        takes_counts: bool = False,
        augmentation: Augmentation = UNCHANGED,
    ) -> None:
        super().__init__()
        for name in unused:
            if getattr(loading, name) != getattr(Loading, name):
                raise ValueError(f"{name} has no effect on {type(self).__name__}: its splits do not depend on it")
        if not takes_counts:
            loading.check_shares(needs_test=needs_test)
        self.loading = loading
        self.augmentation = augmentation
        self.pixels: PixelScale | None = None

    def __repr__(self) -> str:
        """The data set and, once it is read, the number of rows in each split."""
        name = getattr(self, "dataset", None) or getattr(self, "path", None)
        words = [str(name)] if name else []
        if "splits" in self.__dict__:
            parts = {"train": self.splits.train, "validation": self.splits.validation, "test": self.splits.test}
            words += [f"{split}: {len(tensors[0])}" for split, tensors in parts.items() if tensors]
        return f"{type(self).__name__}({', '.join(words)})"

    __str__ = __repr__  # Lightning's would read all the data, and fails where a split is absent

    @property
    @abstractmethod
    def description(self) -> Description:
        """What a network must know about the data."""

    @abstractmethod
    def read(self) -> Splits:
        """Read the whole data set, once."""

    @property
    def batch_size(self) -> int:
        """The batch size of ``loading``, under the name that Lightning looks for."""
        return self.loading.batch_size

    @property
    def task(self) -> str:
        """``binary``, ``multiclass``, ``regression`` or ``next_token``."""
        return self.description.task

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one x, without the batch axis."""
        return self.description.input_shape

    @property
    def output_size(self) -> int:
        """1 for binary; the number of classes for multiclass, of targets for regression, of tokens for next_token."""
        return self.description.output_size

    @property
    def class_names(self) -> list[str] | None:
        """The name of each class in the order of y (the second is binary's positive one); None for regression."""
        return self.description.class_names

    @property
    def target_mean(self) -> Tensor | None:
        """(D,) mean of the training targets in their own units; None unless regression."""
        return self.description.target_mean

    @property
    def target_std(self) -> Tensor | None:
        """(D,) standard deviation of the training targets; ``y * target_std + target_mean`` has their own units."""
        return self.description.target_std

    @property
    def target_names(self) -> list[str] | None:
        """What each of the D targets is called, with the step of a forecast; None where that is not known."""
        return self.description.target_names

    @property
    def vocabulary_size(self) -> int | None:
        """The number V of different tokens where x holds tokens, else None."""
        return self.description.vocabulary_size

    @property
    def padding_index(self) -> int | None:
        """The token that fills a short sequence up, at its end; None where there is none."""
        return self.description.padding_index

    @property
    def encoding(self) -> Encoding:
        """The encoding of new inputs, which checkpoints store; by default arrays are taken as they are."""
        return Arrays([*self.input_shape], is_whole=self.vocabulary_size is not None)

    @cached_property
    def known(self) -> dict[str, Any]:
        """What a network must know about the data to predict, as plain values for its checkpoints."""
        return Known(self.description, self.encoding).plain()

    def in_units(self, outputs: Tensor) -> Tensor:
        """The network's outputs for the rows to predict, (N, D), in the units of the targets."""
        if self.target_std is None or self.target_mean is None:
            return outputs
        return outputs * self.target_std + self.target_mean

    @cached_property
    def splits(self) -> Splits:
        """The tensors of every split, read once; a validation split without rows is an empty tuple.

        Raises:
            ValueError: The batch size is greater than the training split.
        """
        splits = self.read()
        if self.loading.batch_size > (rows := len(splits.train[0])):
            whose = f" of {path}" if (path := getattr(self, "path", None)) else ""
            raise ValueError(
                f"batch_size {self.loading.batch_size} is greater than the training split of {rows} rows{whose}"
            )
        return splits if any(map(len, splits.validation)) else splits._replace(validation=())

    def cut(self, x: Tensor | FileRows, y: Tensor) -> Splits:
        """Split rows at random, by the shares and the ``split_seed`` of ``loading``, stratified by class.

        Raises:
            ValueError: There are too few rows of a class.
        """
        is_regression = self.task == "regression"
        groups = np.zeros(len(y), dtype=int) if is_regression else y.long().numpy()
        names = ["the data"] if is_regression else [f"class {name}" for name in range(int(groups.max()) + 1)]
        shares = (self.loading.validation_share, self.loading.test_share)
        train, validation, test = ((x[rows], y[rows]) for rows in split(groups, names, shares, self.loading.split_seed))
        return Splits(train, validation, test)

    def train_dataloader(self) -> BatchLoader:
        """Batches of the training split, in a new order every epoch unless ``overfit_batches`` wants the same ones."""
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader(self.splits.train, shuffle=shuffle)

    def val_dataloader(self) -> BatchLoader | list[Never]:
        """Batches of the validation split; an empty list, Lightning's word for nothing to load, where there is none."""
        return self._loader(self.splits.validation) if self.splits.validation else []

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test split, in its own order."""
        return self._loader(self.splits.test)

    def predict_dataloader(self) -> BatchLoader:
        """Batches of the rows to predict, the test split unless others are given; (x,) where y is unknown."""
        return self._loader(self.splits.predict or self.splits.test)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Scale images that are bytes, and let those of training vary; Lightning calls it on the network's device.

        What is drawn depends on the seed, the epoch, the batch and the rank alone, as the batches' order does.
        """
        if self.pixels is None:
            return batch
        x, *rest = batch
        if x.dtype == torch.uint8:
            x = self.pixels(x)
            if self.trainer is not None:  # its precision has been applied already, to numbers that are not whole
                x = self.trainer.precision_plugin.convert_input(x)
        if self.trainer is not None and self.trainer.training and not getattr(self.trainer, "overfit_batches", 0):
            batch_index = self.trainer.fit_loop.batch_idx + 1  # Lightning counts this batch after the transfer
            seed = (self.loading.seed, self.trainer.current_epoch, batch_index, self.trainer.global_rank)
            x = self.augmentation(x, self.pixels.black, seed)
        return (x, *rest)

    def _loader(self, tensors: tuple[Tensor | FileRows, ...], *, shuffle: bool = False) -> BatchLoader:
        rank, world_size = 0, 1
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            if self.loading.device_resident:
                tensors = tuple(in_memory(tensor).to(self.trainer.strategy.root_device) for tensor in tensors)
        return BatchLoader(
            tensors, self.loading.batch_size, shuffle=shuffle, seed=self.loading.seed, rank=rank, world_size=world_size
        )
