"""Batches of tensors in memory, or of rows in files."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import final

import numpy as np
import torch
from torch import Tensor

from unvanish.data.file_rows import FileRows, in_memory


@final
class BatchLoader:
    """Cuts tensors into batches, with one index operation a tensor and batch.

    The training order is a permutation fixed by (seed, epoch), so the whole state is the position (epoch, batch), which
    is the same on every rank. Batches are on the device of the tensors. Of rows in a file each rank reads only its own;
    a shuffled order takes 8 bytes a row and reads from random places in the file.

    Args:
        tensors: Tensors, or rows of a file, with a common first axis of samples.
        batch_size: Samples in a batch, on each rank.
        shuffle: Load for training: a new order every epoch, as many samples on every rank (the permutation is padded
            by its own beginning), and a last batch of one sample joins the one before it, because BatchNorm cannot
            take it alone. Otherwise samples come in their own order, each on one rank only.
        seed: Fixes the training order, together with the epoch.
        rank: This process, from 0 to ``world_size - 1``.
        world_size: Number of processes that share the samples.

    Raises:
        ValueError: The tensors differ in length.
    """

    def __init__(
        self,
        tensors: tuple[Tensor | FileRows, ...],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors must have the same length, found {lengths}")
        self.tensors = tensors if shuffle else tuple(tensor[rank::world_size] for tensor in tensors)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._samples = -(-lengths[0] // world_size) if shuffle else len(self.tensors[0])
        self._epoch = 0
        self._batch = 0
        self._resuming = False

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Gives Lightning ``set_epoch``; a ``sampler`` it would claim to replace under ``overfit_batches``."""
        return SimpleNamespace(sampler=self, batch_size=self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Go to the first batch of ``epoch``, unless the position is inside that epoch already, as after a resume."""
        if epoch != self._epoch:
            self._epoch, self._batch = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch: ``epoch`` and ``batch``."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass begin at the position of ``state``."""
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._resuming = True

    def __len__(self) -> int:
        full, rest = divmod(self._samples, self.batch_size)
        joins = self.shuffle and rest == 1 and full > 0
        return full + (rest > 0 and not joins)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if not self._resuming:
            self._batch = 0
        self._resuming = False
        order = self._order() if self.shuffle else None
        count = len(self)
        for batch in range(self._batch, count):
            last = batch == count - 1
            start = batch * self.batch_size
            rows = slice(start, None if last else start + self.batch_size)
            # Before the yield: Lightning takes the last batch of a sized loader and never returns to the generator.
            self._epoch, self._batch = (self._epoch + 1, 0) if last else (self._epoch, batch + 1)
            if order is None:
                yield tuple(in_memory(tensor[rows]) for tensor in self.tensors)
            else:  # a quarter of the time that indexing takes
                yield tuple(tensor.index_select(0, order[rows]) for tensor in self.tensors)

    def _order(self) -> Tensor:
        # NumPy mixes both numbers into the seed; torch's CPU generator keeps no more than 32 bits of one.
        permutation = np.random.default_rng((self.seed, self._epoch)).permutation(len(self.tensors[0]))
        padded = np.resize(permutation, self._samples * self.world_size)
        order = torch.from_numpy(padded[self.rank :: self.world_size].copy())
        return order if isinstance(last := self.tensors[-1], FileRows) else order.to(last.device)
