"""Data larger than the memory, beside data that is in it: ``python -m benchmarks.machines`` writes MACHINES.md.

The large file is sparse: all of it is zeros, and the disk holds none of them. What is read of it takes the way through
the system's cache that any file takes, but for the disk itself; another file, whose bytes are on the disk and in no
cache, shows what that adds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.speed.tables import memory
from unvanish import ArrayFolder, Loading, Splits
from unvanish.command.main import main
from unvanish.command.result import Result
from unvanish.data.file_rows import in_memory

PAGE = Path(__file__).with_name("MACHINES.md")
GIB = 2**30
WIDTH, BATCH, STEPS = 784, 256, 500
OPTIONS = (
    *("--data.scale=false", f"--data.loading.batch_size={BATCH}", "--data.loading.validation_share=0"),
    *("--data.loading.test_share=0.01", f"--trainer.max_steps={STEPS}", "--trainer.max_epochs=-1"),
)


class InMemory(ArrayFolder):  # type: ignore[misc] # final, for all others
    """The same, read as a whole."""

    def __init__(self, path: str, scale: bool = True, loading: Loading = Loading()) -> None:
        super().__init__(path, scale, loading=loading)

    def read(self) -> Splits:
        """All rows of the splits as tensors."""
        train, validation, test = ((in_memory(x), y) for x, y in super().read()[:3])
        return Splits(train, validation, test)


def write(folder: Path, size: float, *, sparse: bool) -> None:
    """x.npy of so many bytes, and y.npy."""
    folder.mkdir()
    rows = int(size) // (4 * WIDTH)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, WIDTH))
    rng = np.random.default_rng(0)
    if not sparse:
        for start in range(0, rows, 2**14):
            x[start : start + 2**14] = rng.random((min(2**14, rows - start), WIDTH), dtype=np.float32)
        x.flush()
    np.save(folder / "y.npy", rng.integers(10, size=rows))


def forget(path: Path) -> None:
    """Have the system's cache give a file up."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def child(kind: str, folder: Path) -> dict[str, float]:
    """Train in this process: samples a second, and the most memory that it has had."""
    with tempfile.TemporaryDirectory() as runs:
        overlay = Path(runs) / "overlay.yaml"
        overlay.write_text(f"data: {{class_path: {kind}, path: {folder}}}\n", encoding="utf-8")
        words = ["fit", "mlp/arrays", "-c", str(overlay), f"--runs={runs}", "--trust=benchmarks", *OPTIONS]
        if code := main(words):
            raise RuntimeError(f"it has ended with {code}")
        (result,) = Path(runs).rglob("result.json")
        seconds = Result.read(result.parent).seconds
    return {"speed": BATCH * STEPS / seconds, "memory": memory("VmHWM")}


def measured(repeats: int, gib: float, folder: Path) -> Iterator[str]:
    """The lines of the table."""
    cases = {
        "1 GiB, in memory": ("benchmarks.machines.InMemory", 1.0, False),
        "1 GiB, in its file, which the system's cache holds": ("unvanish.ArrayFolder", 1.0, False),
        "1 GiB, in its file, on the disk alone": ("unvanish.ArrayFolder", 1.0, False),
        f"{gib:g} GiB, in its file, which is sparse": ("unvanish.ArrayFolder", gib, True),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (kind, size, sparse) in cases.items():
            if not (place := folder / f"{size:g}").exists():
                write(place, size * GIB, sparse=sparse)
            if "alone" in name or sparse:
                forget(place / "x.npy")
            words = [sys.executable, "-m", "benchmarks.machines", "--child", kind, str(place)]
            answer = subprocess.run(words, check=True, capture_output=True, text=True)
            found[name].append(json.loads(answer.stdout.splitlines()[-1]))
    for name, runs in found.items():
        rows = int(cases[name][1] * GIB) // (4 * WIDTH)
        speed, most = median(run["speed"] for run in runs), max(run["memory"] for run in runs)
        yield f"| {name} | {rows:,} | {speed:,.0f} | {most / GIB:.2f} |"


def page(lines: list[str], repeats: int, gib: float) -> str:
    """The whole page."""
    return f"""\
# Machines

## Data larger than memory

A network of two hidden layers of 256 units (`mlp/arrays`, with the monitor at its defaults), trained for {STEPS}
steps of {BATCH} rows drawn from all over the array; a row has {WIDTH} numbers in float32. Each measurement is a
process of its own, the median of {repeats}, on one thread of a machine that did other work. Memory is the peak
resident size of the process, torch and Lightning included.

`python -m benchmarks.machines --gib {gib:g} --repeats {repeats}`, {date.today()}

| x | rows | samples a second | peak memory, GiB |
|---|---|---|---|
{chr(10).join(lines)}
"""


def run(arguments: argparse.Namespace) -> int:
    """Write the page, or be one of its children."""
    if arguments.child:
        torch.set_num_threads(1)
        print(json.dumps(child(arguments.child[0], Path(arguments.child[1]))))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        lines = [*measured(arguments.repeats, arguments.gib, Path(folder))]
    PAGE.write_text(page(lines, arguments.repeats, arguments.gib), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the files are for a while, 1 GiB on the disk")
    parser.add_argument("--child", nargs=2)
    raise SystemExit(run(parser.parse_args()))
