"""A bare loop over tensors that takes turns with a training of the command."""

import time
from collections.abc import Iterator
from statistics import fmean

import lightning as L
from torch import Tensor, nn, randperm
from torch.nn import functional as F

Times = tuple[float, ...]


class Beside(L.Callback):
    """Has the bare loop make some steps after as many of ours, so that a noisy neighbour disturbs both alike.

    Args:
        warm: Steps of both before the first that counts.
        turn: Steps at a time.
        block: Steps that are one round.
    """

    def __init__(self, warm: int, turn: int, block: int) -> None:
        self.warm, self.turn, self.block = warm, turn, block
        self._ours: list[float] = []
        self._theirs: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give it the same network and data; images that are bytes become numbers once, and not batch by batch."""
        data = trainer.datamodule
        x, y = trainer.train_dataloader.tensors
        self._loop = bare(type(pl_module)(**pl_module.hparams), data.pixels(x), y, data.loading.batch_size)
        self._timed(self.warm)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Take the time of both."""
        after, rest = divmod(batch_idx + 1 - self.warm, self.turn)
        if after < 0 or rest:
            return
        if after:
            self._ours.append(1000 * (time.perf_counter() - self._start) / self.turn)
            self._theirs.append(self._timed(self.turn))
        self._start = time.perf_counter()

    def _timed(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            next(self._loop)
        return 1000 * (time.perf_counter() - start) / steps

    def rounds(self) -> tuple[Times, Times]:
        """Milliseconds a step of ours and of the bare loop, round by round."""
        turns = self.block // self.turn
        return tuple(
            tuple(fmean(times[i : i + turns]) for i in range(0, len(times), turns))
            for times in (self._ours, self._theirs)
        )


def bare(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Iterator[None]:
    """An endless training loop over shuffled tensors, of a network with its optimizer; each ``next`` is one step."""
    regularization = model.settings.regularization
    optimizer = model.settings.optimizer.build(model, regularization.weight_decay)
    while True:
        for rows in randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows], label_smoothing=regularization.label_smoothing).backward()
            optimizer.step()
            yield
