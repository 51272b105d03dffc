"""What a step costs against its work: depth, width, batch; and what reading a table costs against its rows.

Each line is fitted by a power law; work is linear in depth, batch and rows, and in the square of the width.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.speed.row import Row, in_turns
from benchmarks.speed.tables import write_table
from unvanish import MLP, GradientRecorder
from unvanish.data import BatchLoader, Tabular

CLASSES = 10
DEPTHS = (10, 30, 100, 300, 1000)
WIDTHS = (64, 128, 256, 512, 1024, 2048)
BATCHES = (16, 64, 256, 1024, 4096)
BATCHED = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
READ = (1_000, 10_000, 100_000, 300_000)
FEATURES = 8
PICTURE = Path(__file__).parents[2] / "docs" / "scaling.png"


def step(depth: int, width: int, batch: int) -> Callable[[], float]:
    """Seconds of a training step under the recorder, everything measured every twentieth: the mean of twenty."""
    torch.manual_seed(0)
    model = MLP((width,), CLASSES, width, depth)
    x, y = torch.randn(batch, width), torch.randint(CLASSES, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    recorder = GradientRecorder(model, first_steps=1)
    taken = 0

    def work() -> float:
        nonlocal taken
        start = time.perf_counter()
        with recorder:
            for _ in range(20):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                recorder.before_step(taken)
                optimizer.step()
                recorder.after_step()
                taken += 1
            recorder.flush()
        return (time.perf_counter() - start) / 20

    return work


def batched(rows: int) -> Callable[[], float]:
    """Seconds of an epoch of shuffled batches of 1,024."""
    loader = BatchLoader((torch.randn(rows, FEATURES), torch.zeros(rows)), min(1024, rows), shuffle=True)

    def work() -> float:
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    return work


def read(folder: Path, rows: int) -> Callable[[], float]:
    """Seconds from a file of 30 columns to tensors."""
    path = folder / f"{rows}.csv"
    write_table(path, rows)

    def work() -> float:
        start = time.perf_counter()
        assert Tabular(path=str(path), target="y").splits.train
        return time.perf_counter() - start

    return work


def measured(folder: Path) -> Iterator[tuple[str, str, float, dict[int, tuple[float, ...]]]]:
    """What grows, what is timed, the exponent of the work, and the seconds of each size."""
    lines: tuple[tuple[str, str, float, tuple[int, ...], Callable[[int], Callable[[], float]]], ...] = (
        ("depth", "a step, width 64, batch 64", 1, DEPTHS, lambda size: step(size, 64, 64)),
        ("width", "a step, depth 3, batch 64", 2, WIDTHS, lambda size: step(3, size, 64)),
        ("batch", "a step, depth 3, width 256", 1, BATCHES, lambda size: step(3, 256, size)),
        ("rows", f"an epoch of batches, {FEATURES} features", 1, BATCHED, batched),
        ("rows", "reading a table of 30 columns", 1, READ, lambda size: read(folder, size)),
    )
    for what, work, expected, sizes, build in lines:
        found = {size: in_turns({"": build(size)}, 3)[""] for size in sizes}
        yield what, work, expected, found


def exponent(found: dict[int, tuple[float, ...]]) -> float:
    """The slope of log seconds over log size, over the upper half of the sizes, where what is fixed counts less."""
    sizes = sorted(found)[len(found) // 2 :]
    times = [median(found[size]) for size in sizes]
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def draw(lines: list[tuple[str, str, float, dict[int, tuple[float, ...]]]]) -> None:
    """Seconds over size, each with the line of its exponent."""
    import matplotlib  # noqa: PLC0415 - of this picture alone

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(lines), figsize=(4 * len(lines), 3.4), layout="constrained")
    for axis, (what, work, expected, found) in zip(axes, lines, strict=True):
        sizes, times = np.array(sorted(found)), [median(found[size]) for size in sorted(found)]
        slope = exponent(found)
        axis.loglog(sizes, times, "o-")
        axis.loglog(sizes, times[-1] * (sizes / sizes[-1]) ** expected, ":", color="gray")
        axis.set(xlabel=what, ylabel="seconds", title=f"{work}\nexponent {slope:.2f}, of the work {expected:g}")
    figure.savefig(PICTURE, dpi=80)
    plt.close(figure)


def rows(root: Path) -> Iterator[Row]:
    """The exponents, and the picture of all lines."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in measured(Path(folder)):
            lines.append(line)
            what, work, expected, found = line
            seconds = ", ".join(f"{size:,}: {median(times):.3g} s" for size, times in found.items())
            name = f"{work}, by {what}: exponent over the upper half, of the work {expected:g}"
            yield Row(name, "", (exponent(found),), (), "", expected + 0.1, seconds)
    draw(lines)
