"""Whether the host ever waits for the device between two flushes, as torch's own debug mode sees it."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from benchmarks.gpu.families import FAMILIES, Family
from benchmarks.gpu.page import Check, NotHereError, Section, Settings
from unvanish import GradientMonitor, GradientRecorder
from unvanish.data import BatchLoader

_STEPS, _FLUSH, _WARM = 200, 100, 20
_WORDS = "synchroniz"


@contextmanager
def _mode(name: str) -> Iterator[None]:
    """What torch does where the host waits: default, warn or error."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode(name)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def checks(settings: Settings) -> Iterator[Check]:
    for title, family in FAMILIES.items():
        yield f"raw loop, {title}", partial(_raw_loop, family, settings)
    for title in ("MLP", "CNN", "Recurrent lstm", "Transformer decoder"):
        yield f"Trainer, {title}", partial(_trainer, FAMILIES[title], settings)


def _raw_loop(family: Family, settings: Settings) -> list[str]:
    if not settings.is_cuda:
        raise NotHereError
    model, (x, y) = family.model(settings), family.batch(settings)
    optimizer = torch.optim.Adam(model.parameters())

    def backward() -> None:
        optimizer.zero_grad()
        model.training_loss(model(x), y).backward()

    for _ in range(3):  # cuDNN and cuBLAS set themselves up
        backward()
        optimizer.step()
    try:
        with _mode("error"):
            backward()
            optimizer.step()
    except RuntimeError as error:
        raise NotHereError(f"waits without a recorder: {str(error).splitlines()[0]}") from error
    with GradientRecorder(model) as recorder:
        for start in range(0, _STEPS, _FLUSH):
            with _mode("error"):
                for step in range(start, start + _FLUSH):
                    backward()
                    recorder.before_step(step, batch_size=len(x))
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    recorder.after_step()
            records = recorder.flush()
            assert [record.step for record in records] == [*range(start, start + _FLUSH)], "steps are missing"
    return ["0", "0"]


class _Listen(L.Callback):
    """Lets torch warn from one step to another."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        if index == _WARM:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.cuda.set_sync_debug_mode("default")


def _waits(family: Family, settings: Settings, callbacks: list[L.Callback]) -> int:
    """How often the host waits after the first steps, flushes aside."""
    x, y = family.batch(settings)
    loader = BatchLoader(tuple(tensor.repeat(_STEPS, *[1] * (tensor.dim() - 1)) for tensor in (x, y)), len(x))
    flush = GradientRecorder.flush

    def quiet_flush(recorder: GradientRecorder) -> Any:
        with _mode("default"):
            return flush(recorder)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="gpu",
            devices=1,
            limit_val_batches=0,
            log_every_n_steps=_STEPS,
            logger=TensorBoardLogger(folder),
            callbacks=[_Listen(), *callbacks],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        GradientRecorder.flush = quiet_flush
        try:
            trainer.fit(family.model(settings), loader)
        finally:
            GradientRecorder.flush = flush
            torch.cuda.set_sync_debug_mode("default")
    return sum(_WORDS in str(warning.message) and "prototype" not in str(warning.message) for warning in said)


def _trainer(family: Family, settings: Settings) -> list[str]:
    if not settings.is_cuda:
        raise NotHereError
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    bare = _waits(family, settings, [])
    monitored = _waits(family, settings, [GradientMonitor(verbose=False)])
    assert monitored <= bare, f"{monitored} waits with the monitor, {bare} without"
    return [str(bare), str(monitored)]


SECTION = Section(
    "The host does not wait",
    f"{_STEPS} steps under torch.cuda.set_sync_debug_mode, off only while a flush runs, each {_FLUSH} steps. Raw loops "
    f"raise at the first wait. A Trainer's waits are counted, from step {_WARM} on, because Lightning has its own.",
    ["waits without", "waits with"],
    checks,
)
