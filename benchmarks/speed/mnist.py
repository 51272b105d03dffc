"""MNIST to 99 % of its test split: speed/mnist, beside PyTorch's example.

python -m benchmarks.speed.mnist --seeds 20 prints the first row over twenty seeds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.speed.row import Row
from benchmarks.speed.trained import trained

RECIPE = ("-c", "speed/mnist", "--variant", "all")
SEEDS, ROUNDS = 7, 5
BATCH, STEPS, STEPS_OF_EPOCH = 64, 40, 938


class Example(nn.Sequential):
    """The network of PyTorch's MNIST example, as its documentation tells it."""

    def __init__(self):
        convolutions = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)
        head = nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(dim=1)
        super().__init__(*convolutions, nn.Dropout(0.25), nn.Flatten(), *head)


def epoch_of_example(root: Path) -> float:
    """Seconds an epoch, from the first steps of one: samples by a loader, Adadelta with a rate of 1."""
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    loader = iter(DataLoader(datasets.MNIST(str(root), transform=scale), BATCH))
    model = Example()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    start = time.perf_counter()
    for _ in range(STEPS):
        x, y = next(loader)
        optimizer.zero_grad()
        F.nll_loss(model(x), y).backward()
        optimizer.step()
    return (time.perf_counter() - start) * STEPS_OF_EPOCH / STEPS


def to_99(root: Path, seeds: int) -> Row:
    """Seconds of training of each seed, and what they score."""
    runs = [trained(*RECIPE, f"--data.root={root}", "--test", f"--seed={seed}") for seed in range(seeds)]
    scores = [run["test/accuracy"] for run in runs]
    spread = f"{mean(scores):.4f} +- {stdev(scores):.4f}, {sum(score >= 0.99 for score in scores)} of them at 0.99"
    seconds = tuple(run["seconds"] for run in runs)
    return Row("MNIST, speed/mnist: training", "", seconds, (), "s", 6.0, f"test/accuracy of {seeds} seeds {spread}")


def whole_command(root: Path) -> float:
    """Seconds from the shell's line to the end, imports, data and test included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "unvanish", "fit", *RECIPE, "--test", "--runs", folder]
        start = time.perf_counter()
        subprocess.run([*command, f"--data.root={root.absolute()}"], check=True, capture_output=True)
        return time.perf_counter() - start


def rows(root: Path) -> Iterator[Row]:
    """Training alone, the whole command, and an epoch of the example, of which several are needed."""
    trained(*RECIPE, f"--data.root={root}")  # warms up
    ours = to_99(root, SEEDS)
    yield ours
    yield Row("MNIST, speed/mnist: the whole command", "", tuple(whole_command(root) for _ in range(3)), (), "s", 15.0)
    theirs = tuple(epoch_of_example(root) for _ in range(ROUNDS))
    note = f"an epoch scores 0.9835, and is scaled from {STEPS} of {STEPS_OF_EPOCH} steps"
    yield Row("MNIST, speed/mnist: training", "an epoch of PyTorch's example", ours.ours[:ROUNDS], theirs, "s", 0, note)


def main() -> None:
    """The first row, over as many seeds as are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--root", type=Path, default=Path("data"))
    options = parser.parse_args()
    print(to_99(options.root, options.seeds))


if __name__ == "__main__":
    main()
