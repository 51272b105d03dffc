"""A step of speed/cifar10 on images of CIFAR-10's shape, through ``fit`` and in a bare loop of the same network."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from benchmarks.speed.beside import Beside
from benchmarks.speed.row import Row
from benchmarks.speed.trained import trained
from unvanish import Loading
from unvanish.command import recipes
from unvanish.data.augmentation import UNCHANGED, Augmentation, PixelScale
from unvanish.data.loading import Description, Splits
from unvanish.data.module import InMemoryData

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 8
#: The monitor records the first ten steps whole, and then every twentieth.
WARM, TURN, TURNS = 11, 4, 15


class Shape(InMemoryData):
    """Bytes at random, of CIFAR-10's shape."""

    def __init__(self, augmentation: Augmentation = UNCHANGED, loading: Loading = Loading()) -> None:
        super().__init__(loading, unused=("test_share",), augmentation=augmentation)

    @property
    def description(self) -> Description:
        return Description("multiclass", SHAPE, CLASSES)

    def read(self) -> Splits:
        x = torch.randint(256, (BATCH * (WARM + TURN * TURNS), *SHAPE), dtype=torch.uint8)
        y = torch.arange(len(x)) % CLASSES
        self.pixels = PixelScale(torch.full((3, 1, 1), 127.5), torch.full((3, 1, 1), 74.0))
        return Splits((x, y), (), (x[:CLASSES], y[:CLASSES]))


def rows(root: Path) -> Iterator[Row]:
    """One row; small batches, as a larger one would hide what is spent around a step."""
    augmentation = recipes.load(["speed/cifar10"]).config["data"]["augmentation"]
    loading = {"batch_size": BATCH, "validation_share": 0}
    data = {"class_path": "benchmarks.speed.cifar.Shape", "augmentation": augmentation, "loading": loading}
    beside = Beside(WARM, TURN, TURN)
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder, "shape.yaml")
        overlay.write_text(yaml.safe_dump({"data": data, "trainer": {"max_epochs": 1}}), encoding="utf-8")
        words = "-c", "speed/cifar10", "-c", str(overlay), "--trust", "benchmarks"
        trained(*words, callbacks=(beside,))
    note = f"batches of {BATCH}, with augmentation and monitor; the bare loop has neither"
    work = "CIFAR-10's shape, speed/cifar10: a step of fit"
    yield Row(work, "a bare loop over tensors", *beside.rounds(), "ms a step", 1.15, note)
