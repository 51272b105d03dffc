"""What ``fit`` prints while it trains: a table with a row for each epoch and, on a terminal, a live line below."""

import math
import time
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from unvanish.command.terminal import console, is_live, say
from unvanish.gradients import GradientMonitor
from unvanish.gradients.judge.report import summary
from unvanish.training import ReferenceModule
from unvanish.training.metrics import Objective

_REDRAWN_EVERY = 0.1
_LINES_EVERY = 1.0


def duration(seconds: float) -> str:
    """A time in at most six characters: 0.42s, 7.3s, 3m05s, 2h07m."""
    if seconds < 1:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def live_line(where: Console, what: str) -> Progress:
    """A progress line with a bar, per cent, a rate and the time left, which disappears at the end.

    Its tasks need a field ``rate``. It is drawn on request only: a thread of its own would slow down the training.
    """
    return Progress(
        TextColumn(what),
        BarColumn(20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=where,
        auto_refresh=False,
        transient=True,
        disable=not is_live(where),
    )


@final
class EpochTable(ProgressBar):
    """Prints a row for each epoch: mean loss, validation scores, learning rate, first/last and the time it took.

    The loss is the mean of ``train/loss`` over the epoch's batches, without penalties; after a resume within an epoch,
    over the rest of it. It is summed on the device and read once an epoch. ``*`` marks an epoch that is at least as
    good as all before it. In a pipe, at most one row a second is printed, and always the last one.

    Args:
        monitor: The gradient monitor, for the ratio of the first to the last layer.
        objective: The metric that epochs are compared by.
    """

    def __init__(self, monitor: GradientMonitor, objective: Objective) -> None:
        super().__init__()
        self.monitor, self.objective = monitor, objective
        self._best: float | None = None
        self._console = console()
        self._progress = live_line(self._console, "{task.description}")
        self._is_enabled = True
        self._columns: list[tuple[str, int]] = []
        self._held: Text | None = None
        self._has_validated = False
        self._losses: Tensor | None = None
        self._batches = 0
        self._printed = self._drawn = self._began = -math.inf

    def disable(self) -> None:
        """Print nothing; Lightning calls this in all processes but the first."""
        self._is_enabled = False
        self._progress.disable = True

    def enable(self) -> None:
        """Print again."""
        self._is_enabled = True

    @property
    def is_enabled(self) -> bool:
        """Whether anything is printed."""
        return self._is_enabled

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a message of another callback between the rows."""
        if self._is_enabled:
            self._release()
            say(" ".join(map(str, args)), self._console)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose the columns and draw the line."""
        score = f"val {self.objective.metric}"
        self._columns = [("epoch", 7), ("train loss", 10)]
        if trainer.enable_validation:
            self._columns += [("val loss", 9), *([(score, len(score) + 1)] if score != "val loss" else [])]
        self._columns += [("lr", 8), *([("first/last", 10)] if self.monitor.session is not None else []), ("time", 6)]
        steps = trainer.estimated_stepping_batches
        total = int(steps) if 0 < steps < math.inf else None
        self._task = self._progress.add_task("epoch 1", total=total, completed=trainer.global_step, rate="")
        self._start, self._first_step = time.monotonic(), trainer.global_step
        self._began = self._start  # a run that goes on in the middle of an epoch has no start of it
        if self._is_enabled:
            self._progress.start()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self._began, self._has_validated = time.monotonic(), False
        self._losses, self._batches = None, 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the loss, and draw the line anew, ten times a second at most."""
        assert isinstance(pl_module, ReferenceModule)
        loss = pl_module.last_batch.get("train/loss")
        if loss is not None:
            self._losses = loss if self._losses is None else self._losses + loss
            self._batches += 1
        now = time.monotonic()
        if self._progress.disable or now - self._drawn < _REDRAWN_EVERY:
            return
        self._drawn = now
        rate = (trainer.global_step - self._first_step) / max(now - self._start, 1e-9)
        self._progress.update(
            self._task,
            completed=trainer.global_step,
            description=f"epoch {_of_all(trainer)}",
            rate=f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step",
        )
        self._progress.refresh()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that this epoch was validated."""
        self._has_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's row; in a pipe, hold it back if the last one was printed less than a second ago."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        validated = found if self._has_validated else {}
        loss = None if self._losses is None else trainer.strategy.reduce(self._losses, reduce_op="mean")
        score = validated.get(f"val/{self.objective.metric}")
        if is_best := self._is_best(score):
            self._best = score
        optimizers = trainer.optimizers
        cells = {
            "epoch": _of_all(trainer),
            "train loss": _number(None if loss is None else float(loss) / self._batches),
            "val loss": _number(validated.get("val/loss")),
            f"val {self.objective.metric}": _number(score) + ("*" if is_best else " "),
            "lr": f"{optimizers[0].param_groups[0]['lr']:.2g}" if optimizers else "",
            "first/last": _first_over_last(self.monitor),
            "time": duration(time.monotonic() - self._began),
        }
        row = "  ".join(cells[name].rjust(width) for name, width in self._columns)
        self._held = Text(row, "green" if is_best else "")
        if is_live(self._console) or time.monotonic() - self._printed >= _LINES_EVERY:
            self._release()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last row if it is still held back, and remove the live line."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._close()

    def _close(self) -> None:
        self._release()
        self._progress.stop()

    def _release(self) -> None:
        """Print the row that is held back, with the head of the table above the first one."""
        if self._held is None or not self._is_enabled:
            return
        if self._printed == -math.inf:
            head = "  ".join(name.rjust(width) for name, width in self._columns)
            self._console.print(Text(head, "bold"), soft_wrap=True)
        self._console.print(self._held, soft_wrap=True)
        self._held, self._printed = None, time.monotonic()

    def _is_best(self, score: float | None) -> bool:
        if score is None or math.isnan(score):
            return False
        sign = 1 if self.objective.mode == "max" else -1
        return self._best is None or sign * score >= sign * self._best


def _of_all(trainer: L.Trainer) -> str:
    total = trainer.max_epochs
    return f"{trainer.current_epoch + 1}" + (f"/{total}" if total and total > 0 else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _first_over_last(monitor: GradientMonitor) -> str:
    """The ratio in the last step that was measured and read; empty if there is none yet."""
    records = monitor.report.last
    return f"{summary(records[-1])['gradient/first_over_last']:.1e}" if records else ""
