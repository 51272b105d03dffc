"""A long run with everything on: what its memory, its files and the time of a step become."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.trust.child import Child

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


def step_times(looks: Sequence[Look]) -> tuple[float, float]:
    """Milliseconds of processor time a step takes in the first tenth and in the last, the very first looks apart."""
    tenth = max(2, len(looks) // 10)
    spans = looks[1 : tenth + 1], looks[-tenth:]
    first, last = (1e3 * (s[-1].processor - s[0].processor) / (s[-1].step - s[0].step) for s in spans)
    return first, last
