"""A training step of ``unvanish fit`` beside a bare loop over tensors, with nothing else on the machine and with."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from cProfile import Profile
from pathlib import Path

import lightning as L

from benchmarks.speed.beside import Beside
from benchmarks.speed.row import Row, in_turns
from benchmarks.speed.trained import trained
from benchmarks.speed.where import shares

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
    "CompactCNN of 16, 32, 64 channels": ("CompactCNN, channels: [16, 32, 64]", 1.10, 1.15),
}


def run(root: Path, model: str, *words: str, callbacks: tuple[L.Callback, ...] = (), steps: int = STEPS) -> None:
    """``unvanish fit`` in this process; what it says is not shown."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE.format(model=model, root=root.absolute(), batch=BATCH, steps=steps), encoding="utf-8")
        trained("-c", str(recipe), *words, callbacks=callbacks)


def through_fit(root: Path) -> Iterator[Row]:
    for title, (model, without, target) in NETWORKS.items():
        for words, what, goal in ((("--no-gradients",), "no monitor", without), ((), "monitor on", target)):
            beside = Beside(WARM, TURN, BLOCK)
            run(root, model, *words, callbacks=(beside,))
            note = where_it_goes(root, model, *words)
            yield Row(f"a step of fit, {title}, {what}", "a bare loop over tensors", *beside.rounds(), MS, goal, note)


class Profiled(L.Callback):
    """Profiles the steps after the first."""

    def __init__(self) -> None:
        self.profile = Profile(time.process_time)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Begin, and end."""
        if batch_idx == WARM:
            self.profile.enable()
        elif batch_idx == WARM + BLOCK:
            self.profile.disable()


def where_it_goes(root: Path, model: str, *words: str) -> str:
    """Calls a step, and the packages that take its time."""
    profiled = Profiled()
    run(root, model, *words, callbacks=(profiled,), steps=WARM + BLOCK + 1)
    calls = sum(entry.callcount for entry in profiled.profile.getstats())
    return f"{calls / BLOCK:.0f} calls a step; {shares(profiled.profile)}"


#: The bare loop in a process of its own, which knows nothing of Lightning and has torch's own number of threads.
_BARE = """
import time, torch
from torch import nn
from torch.nn import functional as F
x, y = torch.randn(20000, 784), torch.randint(10, (20000,))
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters())
for step, index in enumerate(torch.randperm(len(x)).repeat(3).split(64)[:{steps}]):
    start = time.perf_counter() if step == {warm} else start if step else 0
    optimizer.zero_grad()
    F.cross_entropy(model(x[index]), y[index]).backward()
    optimizer.step()
print((time.perf_counter() - start) / ({steps} - {warm}))
"""
_BUSY = "while True: pass"


def alone_of_bare() -> float:
    """Seconds a step."""
    script = _BARE.format(steps=STEPS, warm=WARM)
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)


def alone_of_fit(root: Path) -> float:
    """Seconds a step of the command, with all that a run does between its first step and its last."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        model = NETWORKS["MLP 784-128-128-10"][0]
        recipe.write_text(RECIPE.format(model=model, root=root.absolute(), batch=BATCH, steps=STEPS), encoding="utf-8")
        words = ["fit", "-c", str(recipe), "--runs", folder]
        subprocess.run([sys.executable, "-m", "unvanish", *words], capture_output=True, check=True)
        result = json.loads(next(Path(folder).glob("*/1/result.json")).read_text(encoding="utf-8"))
    return result["seconds"] / result["steps"]


def beside_another(work):
    """The same while another process keeps one core."""

    def busy() -> float:
        with subprocess.Popen([sys.executable, "-c", _BUSY]) as other:
            try:
                return work()
            finally:
                other.kill()

    return busy


def one_core_taken(root: Path) -> Iterator[Row]:
    fit_alone = lambda: alone_of_fit(root)  # noqa: E731 - one of four
    works = {"fit": fit_alone, "fit beside": beside_another(fit_alone)}
    works |= {"bare": alone_of_bare, "bare beside": beside_another(alone_of_bare)}
    times = in_turns(works)
    ours, theirs = (
        tuple(b / a for a, b in zip(times[name], times[f"{name} beside"], strict=True)) for name in ("fit", "bare")
    )
    title = "MLP 784-128-128-10 while another process keeps one core: how many times slower"
    yield Row(f"{title}, fit", "the bare loop with torch's threads", ours, theirs, "times", 1.3)


def rows(root: Path) -> Iterator[Row]:
    """The time of a step."""
    yield from through_fit(root)
    yield from one_core_taken(root)
