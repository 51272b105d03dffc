"""Checkpoints a run, so that it resumes bit for bit after any interruption."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, final

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from unvanish.command import place, random_states
from unvanish.command.checkpoints import KEPT, LAST
from unvanish.command.environment import is_number_of_threads_given
from unvanish.command.finite import NonFinite
from unvanish.command.processes import is_first
from unvanish.command.recipes import CONFIG
from unvanish.command.run_folder import write_text
from unvanish.command.run_logs import RunLogs

#: An epoch's end is kept too, where that takes no more than this share of the time since the last checkpoint.
_SHARE = 0.02


class Stopped(BaseException):
    """The run is told to stop."""


class _Boundary(NamedTuple):
    """A moment between two steps, at which nothing waits to be done."""

    is_validation: bool
    batch: int
    total: int
    global_step: int
    states: random_states.States
    loaders: list[Any]


@final
class Keeper(L.Callback):
    """Writes last.ckpt every few minutes, when the run is told to stop, when it crashes and at its end.

    A checkpoint is of a moment between two steps, before a validation or at an epoch's beginning, with the states of
    all random generators, of each rank its own. A run that crashes within a step is kept as it was before that step:
    the weights are, and buffers and generators are put back in the file.

    Args:
        folder: The run's folder.
        logs: What is written there beside the checkpoints.
        minutes: Longest time between two checkpoints.
        keeps: Whether any are written.
        identity: What tells the run's data from others; kept in its checkpoints.
        keeps_broken: Whether weights that are NaN are kept as well.
        config: Of a run that goes on, once it does so: what it is configured by from here on.
    """

    def __init__(
        self,
        folder: Path,
        logs: RunLogs,
        *,
        minutes: float = 5.0,
        keeps: bool = True,
        identity: str = "",
        keeps_broken: bool = False,
        config: str = "",
    ) -> None:
        self.folder = folder
        self.logs, self.minutes, self.keeps, self.identity = logs, minutes, keeps, identity
        self.keeps_broken, self.config = keeps_broken, config
        #: Step of the checkpoint that was written last.
        self.kept_step: int | None = None
        self.has_started = self.is_done = False
        self.signum: int | None = None
        self._boundary: _Boundary | None = None
        self._is_within_step = False
        self._stateful: list[Any] = []
        self._loaders: list[Any] = []
        self._buffers: list[list[Tensor]] = []
        self._copies: list[list[Tensor]] = []
        self._resumed: dict[str, Any] | None = None
        self._last_time, self._took = time.monotonic(), 0.0
        self._is_writing = self.listens = False

    @property
    def path(self) -> Path:
        """Of the checkpoint that is written."""
        return self.folder / "checkpoints" / LAST

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learn from the first process, which has made it, where the run's folder is."""
        self.folder = trainer.strategy.broadcast(self.folder)

    # What tells a run to stop.

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a wish to stop at the next moment that can be kept; a second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        self.listens = True
        self._listen()
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self._hear)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise Stopped
        self.signum = signum

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen in place of Lightning, which has put its own handler there."""
        if self.listens:
            self._listen()

    # Where the run is.

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where the checkpoint says."""
        self.logs.go_on()
        if self.logs.goes_on and is_first():
            write_text(self.folder / CONFIG, self.config)
        self.on_sanity_check_start(trainer, pl_module)
        self.has_started = True
        self._last_time = time.monotonic()
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in _saved_buffers(pl_module).values():
            kinds.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self._buffers = [*kinds.values()]
        self._copies = [[torch.empty_like(buffer) for buffer in buffers] for buffers in self._buffers]
        if self._resumed is not None:
            place.go_there(trainer, self._resumed["place"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the loaders are, before they are asked for a batch."""
        self._stateful = place.stateful_loaders(trainer)
        self._loaders = [loader.state_dict() for loader in self._stateful]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take the moment before a step for one to go back to, and keep it where that is due."""
        self._go_back(trainer)
        if not place.is_between_steps(trainer, batch_idx):
            return
        total = trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
        self._take(trainer, is_validation=False, batch=batch_idx, total=total)
        self._keep_if_due(trainer, is_epoch=batch_idx == 0 and total > 0)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """From here on the weights may be half changed."""
        self._is_within_step = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing to go back to until the next step begins, unless this one has more batches."""
        self._is_within_step = False
        if place.is_between_steps(trainer, batch_idx + 1) or place.is_epoch_over(trainer):
            self._boundary = None
            self._loaders = [loader.state_dict() for loader in self._stateful]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the moment before a validation in the same way."""
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING and self._boundary is None:
            self._go_back(trainer)
            self._take(trainer, is_validation=True, batch=0, total=0)
            self._keep_if_due(trainer, is_epoch=False)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop here if that is wanted: the validation is done anew, from its beginning."""
        if trainer.sanity_checking:
            if self.signum is not None:
                raise Stopped
        elif self._boundary is not None and self._boundary.is_validation:
            self._stop_if_told(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing to go back to until the next step begins."""
        if self._boundary is not None and self._boundary.is_validation:
            self._boundary = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the last state."""
        self._boundary, self.is_done = None, True
        if trainer.global_step:
            self._keep(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where nothing was left to train, what is written about the end follows the checkpoint as well."""
        self.logs.go_on()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Keep the moment before the step that has failed, unless the weights may be half changed.

        Of several processes one that fails alone keeps nothing: all are needed for it.
        """
        if trainer.world_size > 1 and not isinstance(exception, NonFinite):
            return
        boundary = self._boundary
        is_whole = boundary is not None and boundary.global_step == trainer.global_step
        is_torn = self._is_within_step and not isinstance(exception, NonFinite)
        if is_whole and not is_torn and trainer.global_step and self.kept_step != trainer.global_step:
            with suppress(OSError):  # the disk may be why it has failed
                self._keep(trainer)

    def _take(self, trainer: L.Trainer, *, is_validation: bool, batch: int, total: int) -> None:
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(copies, buffers)
        states = random_states.torch_states()
        self._boundary = _Boundary(is_validation, batch, total, trainer.global_step, states, self._loaders)

    # What is kept of it.

    def _keep_if_due(self, trainer: L.Trainer, *, is_epoch: bool) -> None:
        elapsed = time.monotonic() - self._last_time
        is_due = elapsed >= 60 * self.minutes or (is_epoch and self._took <= _SHARE * elapsed)
        if trainer.world_size > 1:
            is_due = trainer.strategy.broadcast(is_due)
        self._stop_if_told(trainer)
        if is_due and trainer.global_step and self.kept_step != trainer.global_step:
            self._keep(trainer)

    def _stop_if_told(self, trainer: L.Trainer) -> None:
        is_told = self.signum is not None
        if trainer.world_size > 1:
            is_told = trainer.strategy.reduce_boolean_decision(is_told, all=False)
        if not is_told:
            return
        if trainer.global_step and self.kept_step != trainer.global_step:
            self._keep(trainer)
        raise Stopped

    def _keep(self, trainer: L.Trainer) -> None:
        if not self.keeps or getattr(trainer, "fast_dev_run", False):
            return
        if not (self.keeps_broken or is_finite(trainer.lightning_module)):
            return
        start = time.monotonic()
        self._is_writing = True
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._is_writing = False
        self.kept_step = trainer.global_step
        self._last_time = time.monotonic()
        self._took = self._last_time - start

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep, to its own checkpoints as well, and where the run stands."""
        loops, boundary = checkpoint["loops"]["fit_loop"], self._boundary
        stepped, states = place.batches_that_stepped(trainer), random_states.torch_states()
        is_over = place.is_epoch_over(trainer)
        if self._is_writing and boundary is not None:
            states = boundary.states
            if boundary.is_validation:
                found = place.before_validation(loops, boundary.loaders)
            else:
                found = place.before_batch(loops, boundary.batch, boundary.total, boundary.loaders)
            self._put_buffers_back(pl_module, checkpoint["state_dict"])
        elif self._is_writing:
            found = place.after_epoch(loops, is_over)
            checkpoint["epoch"] = max(0, checkpoint["epoch"] - 1)  # the one that is over
        elif trainer.validating:
            found, stepped = place.after_epoch(loops, is_over), stepped + 1
        elif loops["epoch_progress"]["current"]["processed"] > loops["epoch_progress"]["current"]["completed"]:
            found = place.after_epoch(loops, is_over)
        else:
            # At a batch's end, which Lightning goes on from as it should, and counts its step later.
            found, stepped = place.BATCH, stepped + (not trainer.fit_loop._should_accumulate())
        checkpoint[KEPT] = {
            "place": found,
            "batches_that_stepped": stepped,
            "random": random_states.gathered(states | random_states.other_states()),
            "logs": self.logs.marks(),
            "identity": self.identity,
            "threads": torch.get_num_threads(),
        }

    def _put_buffers_back(self, module: nn.Module, weights: dict[str, Any]) -> None:
        pairs = zip(chain(*self._buffers), chain(*self._copies), strict=True)
        before = {id(buffer): copy for buffer, copy in pairs}
        for name, buffer in _saved_buffers(module).items():
            if name in weights and id(buffer) in before:
                weights[name] = before[id(buffer)].clone()

    def restore_buffers(self) -> None:
        """Take back what a pass that does not count has done to them, such as running means of NaN."""
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(buffers, copies)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take what our checkpoint holds; one of another program is resumed as Lightning does it."""
        self._resumed = checkpoint.get(KEPT)
        if self._resumed is None:
            return
        if self.logs.goes_on:
            self.kept_step = checkpoint["global_step"]
        if not is_number_of_threads_given():
            torch.set_num_threads(self._resumed["threads"])  # sums are rounded by them

    def _go_back(self, trainer: L.Trainer) -> None:
        """Set the generators, after all that was drawn from them while the run was built up again."""
        if self._resumed is not None:
            states = self._resumed["random"]
            random_states.restore(states[min(trainer.global_rank, len(states) - 1)])
            place.set_batches_that_stepped(trainer, self._resumed["batches_that_stepped"])
            self._resumed = None


def is_finite(module: nn.Module) -> bool:
    """Whether no weight is NaN or infinite."""
    weights = [p.detach() for p in module.parameters() if p.is_floating_point() and p.numel()]
    if not weights or hasattr(weights[0], "to_local"):  # sharded: no rank knows
        return True
    return bool(torch.stack([norm.double() for norm in torch._foreach_norm(weights, float("inf"))]).isfinite().all())


def _saved_buffers(module: nn.Module) -> dict[str, Tensor]:
    kept = module.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in module.named_buffers() if name in kept}
