"""What recording costs: a bare loop beside the same one watched, by us and by peers; in a Trainer; by depth; memory."""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import grad_norm
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from benchmarks.speed.row import Row, in_turns
from unvanish import MLP, GradientMonitor, GradientRecorder
from unvanish.data import BatchLoader
from unvanish.gradients.show.events import EventWriter

CLASSES, BATCH, BLOCK, TURN, ROUNDS, WARM = 10, 64, 100, 10, 9, 10
MS = "ms a step"
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
    "norms at every step": (norms_alone, 1.05),
    "everything, default cadence": (recorded, 1.10),
    "everything at every step": (every_step, 0.0),
}
PEERS = {"add_histogram for each weight": histograms, "wandb.watch at every step": wandb_watch}
#: A bare step of this one is half a millisecond.
SMALL, SMALL_TARGET = "MLP, 3 layers of 128", 1.12


def block(loop: Loop, size: int) -> float:
    """Milliseconds a step, over so many."""
    start = time.perf_counter()
    for _ in range(size):
        next(loop)
    return 1000 * (time.perf_counter() - start) / size


def times_of(loops: dict[str, Loop], rounds: int, size: int) -> dict[str, tuple[float, ...]]:
    """Milliseconds a step of each loop, for each round of so many steps; every ten it is the next one's turn."""
    for loop in loops.values():
        block(loop, WARM)
    turns = size // TURN
    short = in_turns({name: lambda loop=loop: block(loop, TURN) for name, loop in loops.items()}, rounds * turns, 0)
    return {
        name: tuple(sum(times[start : start + turns]) / turns for start in range(0, len(times), turns))
        for name, times in short.items()
    }


def raw_loops() -> Iterator[Row]:
    for title, build in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            loops = {"bare": bare, **{name: loop for name, (loop, _) in LOOPS.items()}}
            times = times_of({name: loop(build, folder) for name, loop in loops.items()}, ROUNDS, BLOCK)
            for name, (_, target) in LOOPS.items():
                goal = SMALL_TARGET if target and title == SMALL else target
                yield Row(f"{title}: {name}", "bare", times[name], times["bare"], MS, goal)
            # Apart from ours, because their writers go on working beside the loops.
            for name, peer in PEERS.items():
                loop = peer(build, folder)
                try:
                    times = times_of({"bare": bare(build, folder), name: loop}, 3, TURN)
                except ModuleNotFoundError:
                    print("wandb is not installed, and not measured: pip install wandb")
                else:
                    yield Row(f"{title}: {name}", "bare", times[name], times["bare"], MS)
                loop.close()


class GradNorm(L.Callback):
    """The recipe of Lightning's documentation."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        pl_module.log_dict(grad_norm(pl_module, norm_type=2))


def fit(layers: int, width: int, *callbacks: L.Callback) -> float:
    """Milliseconds a step."""
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
        return 1000 * (time.perf_counter() - start) / (3 * BLOCK)


def in_a_trainer() -> Iterator[Row]:
    for layers, width in ((3, 128), (20, 128), (50, 256)):
        variants = {
            "bare": lambda layers=layers, width=width: fit(layers, width),
            "GradientMonitor()": lambda layers=layers, width=width: fit(layers, width, GradientMonitor(verbose=False)),
            "log_dict(grad_norm)": lambda layers=layers, width=width: fit(layers, width, GradNorm()),
        }
        times = in_turns(variants)
        title = f"300 steps of a Trainer, reports and pictures included, MLP, {layers} layers of {width}"
        yield Row(f"{title}: GradientMonitor()", "bare", times["GradientMonitor()"], times["bare"], MS, 1.25)
        yield Row(f"{title}: log_dict(grad_norm)", "bare", times["log_dict(grad_norm)"], times["bare"], MS)


def by_depth() -> Iterator[Row]:
    for layers in (50, 100, 200, 400, 1000):
        with tempfile.TemporaryDirectory() as folder:
            loops = {"bare": bare(mlp(layers, 64), folder), "recorded": recorded(mlp(layers, 64), folder)}
            times = times_of(loops, 5, BLOCK)
        pairs = zip(times["recorded"], times["bare"], strict=True)
        more = tuple(1000 * (ours - theirs) / layers for ours, theirs in pairs)
        yield Row(
            f"everything, default cadence, MLP of {layers} layers of 64: more than bare", "", more, (), "us a layer"
        )


def memory() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        loop = recorded(mlp(3, 64), folder)
        done = 0
        for count in (1000, 10000):
            block(loop, count - done)
            done = count
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            size = pages * resource.getpagesize() / 2**20
            yield Row(f"memory of the process after {count} steps, 3 layers of 64", "", (size,), (), "MiB")


def rows(root: Path) -> Iterator[Row]:
    """Time of a step as a ratio to the bare one, and memory."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for part in (raw_loops, in_a_trainer, by_depth, memory):
        yield from part()
