"""A long run with everything on: what its memory, its files and the time of a step become.

``python -m benchmarks.trust.long`` trains 100,000 steps and writes the section of benchmarks/TRUST.md. It needs Linux.
"""

import os
import sys
import tempfile
import textwrap
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot  # noqa: F401 - what a run needs is imported once, before it is forked
import sklearn.datasets  # noqa: F401
import torch

import unvanish.command.fit  # noqa: F401
from benchmarks.trust.child import Child
from benchmarks.trust.page import LONG, put

STEPS = 100_000
#: What is looked at so often.
_LOOKS = 100


class Look(NamedTuple):
    """A run as it is seen from outside.

    Args:
        step: Batches that it has begun.
        seconds: Since it was begun.
        processor: Seconds of processor time that it has used, which other programs do not lengthen.
        memory: Megabytes that it holds (resident).
        files: Megabytes of each kind of file in its folder.
    """

    step: int
    seconds: float
    processor: float
    memory: float
    files: dict[str, float]


def run(folder: Path, steps: int = STEPS) -> list[Look]:
    """Train an MLP with dropout and the gradient monitor, checkpoints, TensorBoard, CSV, validation in each epoch.

    Raises:
        RuntimeError: it has not ended well.
    """
    folder.mkdir(parents=True)
    limits = ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps}", "--checkpoint-minutes=1"]
    started = time.perf_counter()
    child = Child(["fit", "-c", "mlp/digits", *limits], folder)
    looks: list[Look] = []
    while not child.is_over():
        step = child.steps
        if step >= len(looks) * steps / _LOOKS and step:
            looks.append(_look(child.pid, step, time.perf_counter() - started, folder))
            print(*looks[-1], flush=True)
        time.sleep(0.2)
    if code := child.code():
        raise RuntimeError(f"the run has ended with {code}: {folder / 'output.txt'}")
    return looks


def _look(pid: int, step: int, seconds: float, folder: Path) -> Look:
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    processor = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return Look(step, seconds, processor, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, _sizes(folder))


def _sizes(folder: Path) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for path in folder.rglob("*"):
        kind = "events" if "tfevents" in path.name else path.suffix.removeprefix(".") or "other"
        try:
            sizes[kind] = sizes.get(kind, 0) + path.stat().st_size * path.is_file() / 1e6
        except OSError:  # a checkpoint that is renamed meanwhile
            continue
    return {kind: size for kind, size in sizes.items() if size}


def step_times(looks: Sequence[Look]) -> list[float]:
    """Milliseconds of processor time a step takes in each tenth of the run, without the very first look."""
    tenth = max(2, len(looks) // 10)
    spans = [looks[1 : tenth + 1], *(looks[i : i + tenth] for i in range(tenth, len(looks) - 2 * tenth + 1, tenth))]
    spans.append(looks[-tenth:])
    return [1e3 * (s[-1].processor - s[0].processor) / (s[-1].step - s[0].step) for s in spans]


def section(looks: Sequence[Look]) -> str:
    """Markdown."""
    start, end = looks[len(looks) // 20], looks[-1]
    first, *between, last = step_times(looks)
    kinds = {"events": "TensorBoard's events", "csv": "metrics.csv", "ckpt": "checkpoints", "txt": "what it prints"}
    sizes = [f"{name} {end.files.get(kind, 0):.1f} MB" for kind, name in kinds.items()]
    growth = 1e6 * (end.files["events"] - start.files["events"]) / (end.step - start.step)
    most = max(look.memory for look in looks)
    words = (
        f"`python -m benchmarks.trust.long`: `mlp/digits` for {STEPS:,} steps with the gradient monitor, TensorBoard, "
        "metrics.csv, validation in each epoch and a checkpoint a minute, on one core. "
        f"It holds {start.memory:.0f} MB after {start.step:,} steps and {end.memory:.0f} MB in the end, "
        f"at most {most:.0f}. "
        f"A step takes {first:.2f} ms of processor time in the first tenth and {last:.2f} ms in the last "
        f"({last / first - 1:+.0%}), {min(between):.2f} to {max(between):.2f} ms in those between. "
        f"In the end there are, of files, {', '.join(sizes)}; "
        f"events grow by {growth:.0f} kB in 1,000 steps, checkpoints not at all. Written on {date.today()}."
    )
    return "\n".join(textwrap.wrap(words, 118))


def main(words: Sequence[str] | None = None) -> int:
    """Train and print; write the section where the run was of its whole length."""
    parser = ArgumentParser("python -m benchmarks.trust.long", description=__doc__, allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=STEPS, help="how many; %(default)s")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        text = section(run(Path(name, "run"), given.steps))
    print(text)
    if given.steps >= STEPS:
        put(LONG, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
