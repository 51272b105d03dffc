"""Where a run stands between two steps, in Lightning's own counters, and how it is put there again.

Lightning restores what its loops have counted, but from some moments it goes on as the run would not have: a validation
that was due is left out, an epoch without a batch is counted. So a checkpoint of ours says one of three places.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.fabric.utilities.types import _Stateful

#: Before a batch that is not the epoch's first; before a validation; before the first batch of an epoch.
BATCH, VALIDATION, EPOCH = "batch", "validation", "epoch"

Loops = dict[str, Any]
_ALL = ("ready", "started", "processed", "completed")


def is_between_steps(trainer: L.Trainer, batch: int) -> bool:
    """Whether no gradient waits for a step before this batch of an epoch."""
    return batch % trainer.accumulate_grad_batches == 0


def stateful_loaders(trainer: L.Trainer) -> list[Any]:
    """The training loaders that say where they stand."""
    loader = trainer.fit_loop._combined_loader
    return [one for one in loader.flattened if isinstance(one, _Stateful)] if loader is not None else []


def batches_that_stepped(trainer: L.Trainer) -> int:
    """What the loggers count steps by."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def set_batches_that_stepped(trainer: L.Trainer, count: int) -> None:
    """The other way."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = count


def before_batch(loops: Loops, batch: int, total: int, loaders: list[Any]) -> str:
    """Set the counters of the fit loop to the time before a batch was taken.

    Args:
        loops: The fit loop's state, changed in place.
        batch: The batch's number in its epoch.
        total: How many were trained on, over all epochs.
        loaders: Where the loaders stood.

    Returns:
        The place.
    """
    counts, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    counts["is_last_batch"] = False
    loops["state_dict"]["combined_loader"] = loaders
    _complete(loops)
    if batch:
        # As if it were the end of the batch before, behind which Lightning looks for no validation.
        counts["total"] |= dict.fromkeys(_ALL, total) | {"completed": total - 1}
        counts["current"] |= dict.fromkeys(_ALL, batch) | {"completed": batch - 1}
        return BATCH
    counts["total"] |= dict.fromkeys(_ALL, total)
    counts["current"] |= dict.fromkeys(_ALL, 0)
    for tracker in ("total", "current"):
        epochs[tracker] |= dict.fromkeys(_ALL, epochs[tracker]["completed"])
    return EPOCH


def before_validation(loops: Loops, loaders: list[Any]) -> str:
    """Set the counters of the fit loop to the time before a validation that has begun."""
    counts = loops["epoch_loop.batch_progress"]
    for tracker in ("total", "current"):
        counts[tracker] |= dict.fromkeys(_ALL, counts[tracker]["ready"])
    validated = loops["epoch_loop.val_loop.batch_progress"]
    # In the middle of its first batch: the one thing that makes Lightning go back to a validation.
    validated["is_last_batch"] = False
    validated["current"] |= dict.fromkeys(_ALL, 0)
    validated["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops["state_dict"]["combined_loader"] = loaders
    _complete(loops)
    return VALIDATION


def after_epoch(loops: Loops, is_whole: bool) -> str:
    """Set the counters to the time before what follows an epoch that is over, or was broken off by ``max_steps``."""
    counts, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    done = max(epochs["current"]["processed"], epochs["current"]["ready"])
    total, batch = counts["total"]["ready"], counts["current"]["ready"]
    past = epochs["total"]["ready"] - epochs["current"]["ready"]
    loaders = loops["state_dict"].get("combined_loader", [])
    for tracker, count in (("current", done), ("total", done + past)):
        before = count if is_whole else count - 1
        epochs[tracker] |= {"ready": count, "started": count, "processed": before, "completed": before}
    return before_batch(loops, 0 if is_whole else batch, total, loaders)


def go_there(trainer: L.Trainer, place: str) -> None:
    """Have the loops, restored, begin at a place; when the training starts."""
    if place == EPOCH:
        trainer.fit_loop.restarting = False


def is_epoch_over(trainer: L.Trainer) -> bool:
    """Whether the last batch that was trained on was its epoch's last."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch or progress.current.ready >= trainer.num_training_batches)


def _complete(loops: Mapping[str, Any]) -> None:
    """A step of an optimizer that was begun and not made is none."""
    steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for what in steps.values():
        for tracker in ("total", "current"):
            what[tracker] |= dict.fromkeys(what[tracker], what[tracker]["completed"])
