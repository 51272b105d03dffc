"""What recording costs: time as a ratio to the same loop bare; the loops take turns."""

import logging
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F

from benchmarks.gpu.families import CLASSES, FAMILIES
from benchmarks.gpu.page import Check, Section, Settings
from unvanish import MLP, GradientMonitor, GradientRecorder
from unvanish.data import BatchLoader

_BLOCK, _ROUNDS = 100, 5
Loop = Iterator[None]


def checks(settings: Settings) -> Iterator[Check]:
    families = ("MLP", "CNN", "CompactCNN", "Recurrent lstm", "Transformer decoder", "Wrap resnet18")
    for title in families[:1] if settings.quick else families:
        yield f"raw loop, {title}", partial(_raw_loops, title, settings)
    for layers, width in ((3, 128), (20, 128), (50, 256))[: 1 if settings.quick else 3]:
        yield f"raw loop, MLP of {layers} layers of {width}", partial(_raw_loops, (layers, width), settings)
    for layers, width in ((3, 128), (50, 256))[: 1 if settings.quick else 2]:
        yield f"Trainer, MLP of {layers} layers of {width}", partial(_trainers, layers, width, settings)


def _loop(what: str | tuple[int, int], settings: Settings, recorder_options: dict[str, int] | None) -> Loop:
    """An endless training loop, a step each ``next``; recorded where there are options."""
    torch.manual_seed(0)
    if isinstance(what, str):
        network = FAMILIES[what].model(settings)
        model: nn.Module = network
        x, y = FAMILIES[what].batch(settings)
        loss_of = network.training_loss
    else:
        model = MLP((what[1],), CLASSES, what[1], what[0]).to(settings.device)
        x = torch.randn(64, what[1], device=settings.device)
        y = torch.randint(CLASSES, (64,), device=settings.device)
        loss_of = F.cross_entropy
    optimizer = torch.optim.Adam(model.parameters())
    if recorder_options is None:
        while True:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
            yield
    with GradientRecorder(model, **recorder_options) as recorder:
        step = 0
        while True:
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
            step += 1
            if step % 100 == 0:
                recorder.flush()
            yield


def _block(loop: Loop, steps: int, settings: Settings) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    for _ in range(steps):
        next(loop)
    if settings.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def _raw_loops(what: str | tuple[int, int], settings: Settings) -> list[str]:
    norms_alone = {"every_n_steps": 10**9, "first_steps": 1}
    loops = {"bare": None, "norms": norms_alone, "default": {"every_n_steps": 20}}
    made = {name: _loop(what, settings, options) for name, options in loops.items()}
    block, rounds = (10, 2) if settings.quick else (_BLOCK, _ROUNDS)
    for loop in made.values():
        _block(loop, block // 5, settings)
    found = [{name: _block(loop, block, settings) for name, loop in made.items()} for _ in range(rounds)]
    for loop in made.values():
        loop.close()
    return _cells(found)


def _cells(found: list[dict[str, float]]) -> list[str]:
    """Milliseconds of the bare step, and for each other loop the median of its ratios with the least and the most."""
    bare = f"{1000 * median(seconds['bare'] for seconds in found):.2f}"
    cells = []
    for name in list(found[0])[1:]:
        ratios = sorted(seconds[name] / seconds["bare"] for seconds in found)
        cells.append(f"{median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]")
    return [bare, *([""] if len(cells) == 1 else []), *cells]


class _Clock(L.Callback):
    """The time from one step to the last one's end, and all else that a fit takes."""

    def __init__(self, settings: Settings, warm: int) -> None:
        self.settings, self.warm = settings, warm
        self.marks: list[float] = []

    def mark(self) -> None:
        if self.settings.is_cuda:
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == self.warm:
            self.mark()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.mark()


def _fit(layers: int, width: int, settings: Settings, callbacks: list[L.Callback]) -> tuple[float, float]:
    """Seconds a step in a Trainer after the first ones, and those of the rest: setting up, first steps, report."""
    warm, steps = (10, 30) if settings.quick else (20, 320)
    torch.manual_seed(0)
    model = MLP((width,), CLASSES, width, layers)
    x, y = torch.randn(64 * steps, width), torch.randint(CLASSES, (64 * steps,))
    clock = _Clock(settings, warm)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="gpu" if settings.is_cuda else "cpu",
            devices=1,
            limit_val_batches=0,
            logger=TensorBoardLogger(folder),
            callbacks=[clock, *callbacks],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        clock.mark()
        trainer.fit(model, BatchLoader((x.to(settings.device), y.to(settings.device)), 64))
        clock.mark()
    begin, first, last, end = clock.marks
    return (last - first) / (steps - warm), first - begin + end - last


def _trainers(layers: int, width: int, settings: Settings) -> list[str]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found, more = [], []
    for _ in range(1 if settings.quick else 3):
        bare, bare_rest = _fit(layers, width, settings, [])
        monitored, monitored_rest = _fit(layers, width, settings, [GradientMonitor(verbose=False)])
        found.append({"bare": bare, "monitor": monitored})
        more.append(monitored_rest - bare_rest)
    return [*_cells(found), f"{median(more):.1f}"]


SECTION = Section(
    "What recording costs",
    f"Ratios to the bare loop: median, least and most of {_ROUNDS} rounds of {_BLOCK} steps that take turns, of three "
    "rounds for a Trainer, of which steps 20 to 320 count; what the monitor takes before and after them is in the last "
    "column. A row holds where it could be measured, for no ratio is promised.",
    ["bare, ms a step", "norms alone", "default cadence, or GradientMonitor", "s more, once"],
    checks,
)
