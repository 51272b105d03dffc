"""What recording gradients costs: time as a ratio to the same loop bare, within one run; and memory.

Loops take turns every ten steps, so that a noisy neighbour disturbs all of them alike. Nothing here asserts a time.
``python benchmarks/monitor.py [cost] [trainer] [depth] [memory] [first]`` runs some of the parts.
"""

import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import grad_norm
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from unvanish import MLP, GradientMonitor, GradientRecorder
from unvanish.data import BatchLoader
from unvanish.gradients.show.events import EventWriter

CLASSES, BATCH, BLOCK, TURN, ROUNDS, WARM = 10, 64, 100, 10, 9, 10
Loop = Iterator[None]


class CNN(nn.Sequential):
    """Three 3x3 convolutions on 16x16 images."""

    def __init__(self):
        blocks = [(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)) for a, b in CHANNELS]
        super().__init__(*(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(64 * 4, CLASSES))


CHANNELS = ((1, 16), (16, 32), (32, 64))


class Transformer(nn.Module):
    """Four blocks of width 64 on 32 tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(65, 64)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True) for _ in range(4))
        self.leave = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(x.mean(1))


def mlp(layers: int, width: int):
    return lambda: (MLP((width,), CLASSES, width, layers), torch.randn(BATCH, width))


NETWORKS = {
    "MLP, 3 layers of 128": mlp(3, 128),
    "MLP, 20 layers of 128": mlp(20, 128),
    "MLP, 50 layers of 256": mlp(50, 256),
    "MLP, 100 layers of 256": mlp(100, 256),
    "CNN, 3 convolutions": lambda: (CNN(), torch.randn(BATCH, 1, 16, 16)),
    "Transformer, 4 blocks": lambda: (Transformer(), torch.randint(65, (BATCH, 32))),
}


def steps(build: Callable, model: nn.Module, before: Callable[[int], None], after: Callable[[int], None]) -> Loop:
    """An endless training loop; each ``next`` is one step."""
    x = build()[1]
    y = torch.randint(CLASSES, (BATCH,))
    optimizer = torch.optim.Adam(model.parameters())
    step = 0
    while True:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before(step)
        optimizer.step()
        after(step)
        step += 1
        yield


def new_model(build: Callable) -> nn.Module:
    torch.manual_seed(0)
    return build()[0]


def nothing(step: int) -> None:
    pass


def bare(build: Callable, folder: str) -> Loop:
    yield from steps(build, new_model(build), nothing, nothing)


def recorded(build: Callable, folder: str, **options) -> Loop:
    """With everything that the monitor does: records, flushes, and event files."""
    model = new_model(build)
    writer = EventWriter(SummaryWriter(folder))

    def after(step: int) -> None:
        recorder.after_step()
        if step % 100 == 99:
            for record in recorder.flush():
                writer.write(record, {})

    with GradientRecorder(model, **options) as recorder:
        yield from steps(build, model, recorder.before_step, after)


def norms_alone(build: Callable, folder: str) -> Loop:
    """The norm of each weight's gradient at every step, and nothing else."""
    yield from recorded(build, folder, every_n_steps=10**9, first_steps=1)


def every_step(build: Callable, folder: str) -> Loop:
    yield from recorded(build, folder, every_n_steps=1)


def histograms(build: Callable, folder: str) -> Loop:
    model, writer = new_model(build), SummaryWriter(folder)

    def before(step: int) -> None:
        for name, weight in model.named_parameters():
            writer.add_histogram(name, weight.grad, step)

    yield from steps(build, model, before, nothing)


def wandb_watch(build: Callable, folder: str) -> Loop:
    import wandb  # noqa: PLC0415 - a peer, and no dependency

    model = new_model(build)
    settings = wandb.Settings(silent=True, console="off")
    run = wandb.init(mode="offline", dir=folder, settings=settings)
    run.watch(model, log="gradients", log_freq=1)
    try:
        yield from steps(build, model, nothing, lambda step: run.log({"step": step}))
    finally:
        run.finish()


LOOPS = {
    "bare": bare,
    "norms at every step": norms_alone,
    "everything, default cadence": recorded,
    "everything at every step": every_step,
    "add_histogram for each weight": histograms,
    "wandb.watch at every step": wandb_watch,
}


OURS = ("norms at every step", "everything, default cadence", "everything at every step")
PEERS = ("add_histogram for each weight", "wandb.watch at every step")


def block(loop: Loop, size: int) -> float:
    """Seconds for so many steps."""
    start = time.perf_counter()
    for _ in range(size):
        next(loop)
    return time.perf_counter() - start


def rounds_of(loops: dict[str, Loop], rounds: int, size: int) -> list[dict[str, float]]:
    """Seconds a step of each loop, for each round of so many steps; they take turns."""
    for loop in loops.values():
        block(loop, WARM)
    found = []
    for _ in range(rounds):
        seconds = dict.fromkeys(loops, 0.0)
        for _ in range(size // TURN):
            for name, loop in loops.items():
                seconds[name] += block(loop, TURN) / size
        found.append(seconds)
    return found


def print_ratios(rounds: list[dict[str, float]]) -> None:
    for name in list(rounds[0])[1:]:
        ratios = sorted(times[name] / times["bare"] for times in rounds)
        print(f"  {name:30} x{median(ratios):.3f}  [{ratios[0]:.3f}, {ratios[-1]:.3f}]")


def cost() -> None:
    print("raw loops, ratio to the bare one: median, least and most of the rounds")
    for title, build in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            ours = rounds_of({name: LOOPS[name](build, folder) for name in ("bare", *OURS)}, ROUNDS, BLOCK)
            print(f"\n{title}: {1000 * median(times['bare'] for times in ours):.2f} ms a step")
            print_ratios(ours)
            # Apart from ours, because their writers go on working beside the loops.
            for name in PEERS:
                loop = LOOPS[name](build, folder)
                try:
                    print_ratios(rounds_of({"bare": bare(build, folder), name: loop}, 3, TURN))
                except ModuleNotFoundError:
                    print("  wandb is not installed: pip install wandb")
                loop.close()


class GradNorm(L.Callback):
    """The recipe of Lightning's documentation."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        pl_module.log_dict(grad_norm(pl_module, norm_type=2))


def fit(layers: int, width: int, *callbacks: L.Callback) -> float:
    """Seconds a step."""
    torch.manual_seed(0)
    model = MLP((width,), CLASSES, width, layers)
    data = torch.randn(BATCH * BLOCK, width), torch.randint(CLASSES, (BATCH * BLOCK,))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=3,
            limit_val_batches=0,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        start = time.perf_counter()
        trainer.fit(model, BatchLoader(data, BATCH))
        return (time.perf_counter() - start) / (3 * BLOCK)


def in_a_trainer() -> None:
    print("\nin a Lightning Trainer, reports and pictures included, ratio to the bare one")
    for layers, width in ((3, 128), (20, 128), (50, 256)):
        variants = {
            "bare": lambda: (),
            "GradientMonitor()": lambda: (GradientMonitor(verbose=False),),
            "log_dict(grad_norm)": lambda: (GradNorm(),),
        }
        rounds = [{name: fit(layers, width, *make()) for name, make in variants.items()} for _ in range(3)]
        print(f"\nMLP, {layers} layers of {width}: {1000 * median(times['bare'] for times in rounds):.2f} ms a step")
        for name in list(variants)[1:]:
            print(f"  {name:30} x{median(times[name] / times['bare'] for times in rounds):.3f}")


def by_depth() -> None:
    print("\neverything, default cadence, MLPs of width 64: milliseconds a step more than bare")
    for layers in (50, 100, 200, 400):
        with tempfile.TemporaryDirectory() as folder:
            loops = {"bare": bare(mlp(layers, 64), folder), "recorded": recorded(mlp(layers, 64), folder)}
            rounds = rounds_of(loops, ROUNDS, BLOCK)
        more = 1000 * median(times["recorded"] - times["bare"] for times in rounds)
        print(f"  {layers:4} layers  {more:6.3f} ms, {1000 * more / layers:5.2f} us a layer")


def memory() -> None:
    print("\nmemory of the process, everything, default cadence, 3 layers of 64")
    with tempfile.TemporaryDirectory() as folder:
        loop = recorded(mlp(3, 64), folder)
        done = 0
        for count in (1000, 2000, 5000, 10000):
            block(loop, count - done)
            done = count
            with open("/proc/self/statm", encoding="ascii") as file:
                pages = int(file.read().split()[1])
            print(f"  after {count:6} steps  {pages * resource.getpagesize() / 2**20:.1f} MiB")


def first_row() -> None:
    """From the command to the first row of its table, beside the imports that it cannot do without."""
    imports, rows = [], []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch, lightning"], check=True)
        imports.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-u", "-m", "unvanish", "fit", "quickstart", "--runs", folder]
            start = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as fit:
                next(line for line in fit.stdout if line.lstrip().startswith("1/"))
                rows.append(time.perf_counter() - start)
                fit.communicate()
    print(f"\nunvanish fit quickstart: first row after {median(rows):.1f} s [{min(rows):.1f}, {max(rows):.1f}]")
    print(f"import torch, lightning: {median(imports):.1f} s [{min(imports):.1f}, {max(imports):.1f}]")


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated")
    os.environ.setdefault("WANDB_SILENT", "true")
    parts = {"cost": cost, "trainer": in_a_trainer, "depth": by_depth, "memory": memory, "first": first_row}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
