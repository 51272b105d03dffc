"""Images to batches beside torchvision's DataLoader; a folder of JPEG beside the decoder alone."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.speed.row import Row, in_turns
from unvanish.data import BatchLoader, ImageFolder, Loading

BATCH, IMAGES, WORKERS = 64, 60_000, (0, 1, 2)
#: torchvision's loader takes its time for each sample, so that fewer tell it.
THEIRS = 3_000
FILES, SIDE, CLASSES = 4_000, 64, 4
#: Of the files: as small as the batches, and as photographs are.
SIDES = (64, 256)


class Written(MNIST):
    """torchvision's class on images of MNIST's shape that are drawn at random, and lie nowhere."""

    def __init__(self, data: torch.Tensor, targets: torch.Tensor) -> None:
        self.data, self.targets = data, targets
        self.transform, self.target_transform = Compose([ToTensor(), Normalize((0.13,), (0.31,))]), None


def drawn() -> Dataset:
    """Bytes (N, 28, 28), and a class for each."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randint(256, (IMAGES, 28, 28), dtype=torch.uint8, generator=generator)
    return Written(data, torch.randint(10, (IMAGES,), generator=generator))


def per_image(batches: Callable[[], Iterator], most: int) -> float:
    """Microseconds an image, of one epoch or of so many images."""
    start, seen = time.perf_counter(), 0
    for x, _ in batches():
        seen += len(x)
        if seen >= most:
            break
    return 1e6 * (time.perf_counter() - start) / seen


def from_memory() -> Iterator[Row]:
    """The training loader of ``Images``, whose pixels are scaled once, beside one that scales each image anew."""
    images = drawn()
    x = (images.data.unsqueeze(1).float() / 255 - 0.13) / 0.31
    loader = BatchLoader((x, images.targets), BATCH, shuffle=True)
    works = {"ours": lambda: per_image(lambda: iter(loader), IMAGES)}
    for workers in WORKERS:
        peer = DataLoader(images, BATCH, shuffle=True, num_workers=workers)
        works[f"{workers} workers"] = lambda peer=peer: per_image(lambda: iter(peer), THEIRS)
    times = in_turns(works)
    for workers in WORKERS:
        work = f"{IMAGES:,} images 28x28 to batches of {BATCH}, start of the epoch included"
        name = f"torchvision's DataLoader, {workers} workers, over {THEIRS:,}"
        yield Row(work, name, times["ours"], times[f"{workers} workers"], "us an image", 1 / 50)


def write_images(folder: Path, side: int) -> list[Path]:
    """JPEG files, smooth as photographs are, in a folder for each class; 200 differ."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(200):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        file = BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
        contents.append(file.getvalue())
    paths = [folder / f"class{index % CLASSES}" / f"{index:05}.jpg" for index in range(FILES)]
    for index, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[index % len(contents)])
    return paths


def decoded(paths: list[Path], side: int) -> float:
    """Seconds that torchvision's decoder takes for all files, with two threads, into one tensor of bytes."""
    start = time.perf_counter()
    pixels = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)

    def read(index: int) -> None:
        pixels[index] = decode_image(read_file(str(paths[index])), ImageReadMode.RGB)

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for _ in pool.map(read, range(len(paths))):
            pass
    return time.perf_counter() - start


def from_files(side: int) -> Iterator[Row]:
    """The first epoch of a folder, and the later ones."""
    with tempfile.TemporaryDirectory() as name:
        paths = write_images(Path(name), side)

        def module() -> ImageFolder:
            return ImageFolder(name, image_size=SIDE, loading=Loading(batch_size=BATCH))

        def epoch(data: ImageFolder) -> float:
            start = time.perf_counter()
            for batch in data.train_dataloader():
                data.on_after_batch_transfer(batch, 0)
            return time.perf_counter() - start

        def first() -> float:
            start = time.perf_counter()
            epoch(module())
            return time.perf_counter() - start

        times = in_turns({"first": first, "decoder": lambda: decoded(paths, side)}, 3)
        work = f"{FILES:,} JPEG of {side}x{side} to batches of {SIDE}x{SIDE}, first epoch, reading included"
        yield Row(work, "torchvision.io alone, two threads", times["first"], times["decoder"], "s", 1.2)
        data = module()
        x, y = data.splits.train
        order = torch.randperm(len(x))

        def copied() -> float:
            start = time.perf_counter()
            for rows in order.split(BATCH):
                data.on_after_batch_transfer((x[rows], y[rows]), 0)
            return time.perf_counter() - start

        times = in_turns({"later": lambda: epoch(data), "copied": copied})
        work = f"the same, later epochs ({len(x):,} images to train on)"
        yield Row(work, "indexing the tensor and scaling it", times["later"], times["copied"], "s", 1.1)


def rows(root: Path) -> Iterator[Row]:
    """Time to batches."""
    yield from from_memory()
    for side in SIDES:
        yield from from_files(side)
