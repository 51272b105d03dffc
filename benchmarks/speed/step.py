"""A training step of ``unvanish fit`` beside a bare loop over tensors, with nothing else on the machine and with."""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.speed.row import Row
from unvanish.command.fit import fit
from unvanish.command.main import quieten
from unvanish.command.verbs import parser

BATCH, TURN, BLOCK, ROUNDS, WARM = 64, 10, 100, 9, 100
STEPS = WARM + ROUNDS * BLOCK
MS = "ms a step"
RECIPE = """
model: {{class_path: unvanish.networks.{model}}}
data: {{class_path: unvanish.data.Images, dataset: mnist, root: {root}, loading: {{batch_size: {batch}}}}}
trainer: {{max_epochs: 1, limit_train_batches: {steps}, limit_val_batches: 1, accelerator: cpu}}
"""


#: What the recipe says of the network, and the ratios to reach without the monitor and with it.
NETWORKS = {
    "MLP 784-128-128-10": ("MLP, hidden_sizes: [128, 128]", 1.5, 1.8),
    "MLP 784-1024-1024-10": ("MLP, hidden_sizes: [1024, 1024]", 1.10, 1.15),
    "CNN of 16, 32, 64 channels": ("CNN, channels: [16, 32, 64]", 1.10, 1.15),
}


def bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Iterator[None]:
    """An endless training loop over shuffled tensors; each ``next`` is one step."""
    optimizer = torch.optim.Adam(model.parameters())
    while True:
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            yield


def timed(loop: Iterator[None], steps: int) -> float:
    """Seconds for so many steps."""
    start = time.perf_counter()
    for _ in range(steps):
        next(loop)
    return time.perf_counter() - start


class Beside(L.Callback):
    """Has the bare loop make ten steps after each ten of ours, so that a noisy neighbour disturbs both alike."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give it the same network and data; images that are bytes become numbers once, and not batch by batch."""
        x, y = trainer.train_dataloader.tensors
        self.loop = bare(type(pl_module)(**pl_module.hparams), trainer.datamodule.pixels(x), y)
        timed(self.loop, WARM)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Take the time of both."""
        if batch_idx + 1 < WARM or (batch_idx + 1) % TURN:
            return
        if batch_idx + 1 > WARM:
            self.ours.append(time.perf_counter() - self.start)
            self.theirs.append(timed(self.loop, TURN))
        self.start = time.perf_counter()

    def rounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Milliseconds a step of both, round by round."""
        turns = BLOCK // TURN
        ours, theirs = (
            tuple(1000 * sum(times[i : i + turns]) / BLOCK for i in range(0, len(times), turns))
            for times in (self.ours, self.theirs)
        )
        return ours, theirs


def run(root: Path, model: str, *words: str, callbacks: tuple[L.Callback, ...] = (), steps: int = STEPS) -> None:
    """``unvanish fit`` in this process; what it says is not shown."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE.format(model=model, root=root.absolute(), batch=BATCH, steps=steps), encoding="utf-8")
        options, overrides = parser().parse_known_args(["fit", "-c", str(recipe), "--runs", folder, *words])
        with contextlib.redirect_stdout(io.StringIO()):
            quieten("stdout")
            fit(options, overrides, callbacks=callbacks)


def through_fit(root: Path) -> Iterator[Row]:
    for title, (model, without, target) in NETWORKS.items():
        for words, what, goal in ((("--no-gradients",), "no monitor", without), ((), "monitor on", target)):
            beside = Beside()
            run(root, model, *words, callbacks=(beside,))
            yield Row(f"a step of fit, {title}, {what}", "a bare loop over tensors", *beside.rounds(), MS, goal)


def rows(root: Path) -> Iterator[Row]:
    """The time of a step."""
    yield from through_fit(root)
