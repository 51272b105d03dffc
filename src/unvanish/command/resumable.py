"""Whether what a checkpoint holds is what a run goes on from: told before anything of the run is changed."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from unvanish.command import random_states
from unvanish.command.checkpoints import KEPT
from unvanish.command.errors import WrongInputError, one_line
from unvanish.command.finite import FiniteSteps
from unvanish.command.place import BATCH, EPOCH, VALIDATION
from unvanish.command.recipes import BATCH_SIZE, CONFIG, flat, read
from unvanish.data import Loading
from unvanish.gradients import GradientMonitor

log = logging.getLogger(__name__)


class _Each(NamedTuple):
    """Any number of what is like one."""

    like: Any


#: An example of what any run is resumed from, with entries that Lightning silently skips where they are missing.
_FRAME: dict[str, Any] = {
    "pytorch-lightning_version": "",
    "global_step": 0,
    "epoch": 0,
    "loops": {"fit_loop": {}},
    "optimizer_states": _Each({"state": {}, "param_groups": _Each({"params": []})}),
    "lr_schedulers": _Each({}),
}
#: The same of a run of ours.
_OF_OURS: dict[str, Any] = {
    "callbacks": {"ResultWriter": {"points": _Each({"epoch": 0, "step": 0}), "seconds": 0.0}},
    KEPT: {
        "place": "",
        "batches_that_stepped": 0,
        "random": [],
        "identity": "",
        "logs": {"rows": 0, "events": {}},
        "threads": 1,
    },
}
#: What the gradient report goes on from.
_MONITOR: dict[str, Any] = {
    "report": "",
    "recorder": {
        "taken": _Each(0),
        "previous": _Each((_Each(""), _Each(torch.Tensor), _Each(""), None)),
        "with_gradient": _Each(""),
        "with_delta": _Each(""),
        "missing": _Each(("", "", _Each(""))),
    },
    "next_verdict": 0,
    "notes": _Each(""),
}


def check_resumable(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks what any resumed run needs, such as one with weights only."""
    if odd := unlike(checkpoint, _FRAME | (_OF_OURS if KEPT in checkpoint else {})):
        raise WrongInputError(f"{path} cannot be resumed: {odd}")
    if KEPT in checkpoint and checkpoint[KEPT]["place"] not in (BATCH, VALIDATION, EPOCH):
        raise WrongInputError(f"{path} cannot be resumed: {KEPT}.place is {checkpoint[KEPT]['place'][:40]!r}")


@final
class ResumeCheck(L.Callback):
    """Refuses a checkpoint that does not fit, once all other callbacks have prepared what is trained: it is the last.

    Args:
        folder: Of the run that goes on; None if a new run begins with the checkpoint of another.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._checkpoint: Mapping[str, Any] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learn from the first process where the run's folder is."""
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the checkpoint; if Lightning reads it after ``on_fit_start``, as under FSDP2, check it now."""
        self._checkpoint = checkpoint
        if trainer.strategy.restore_checkpoint_after_setup:
            self.on_fit_start(trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check it: Lightning has made the optimizers, and restores them after this."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None:
            return
        check_fits(trainer, checkpoint, goes_on=self.folder is not None)
        if self.folder is not None and KEPT in checkpoint:
            check_samples(trainer, self.folder, len(checkpoint[KEPT]["random"]))


def check_fits(trainer: L.Trainer, checkpoint: Mapping[str, Any], *, goes_on: bool) -> None:
    """Refuse a checkpoint that does not fit the trainer, whose optimizers are there and not yet restored.

    Args:
        trainer: Of the run that is resumed.
        checkpoint: What ``check_resumable`` has let pass.
        goes_on: Whether the run itself is resumed, and not a new one begun.

    Raises:
        WrongInputError: Something is missing, or is not like what the run itself would keep.
    """
    like: dict[str, Any] = {
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        "lr_schedulers": _schedulers(trainer, checkpoint["lr_schedulers"]),
    }
    if KEPT in checkpoint:
        if isinstance(getattr(trainer.datamodule, "loading", None), Loading):  # type: ignore[attr-defined]
            like["loops"]["fit_loop"]["state_dict"] = {"combined_loader": [{"epoch": 0, "batch": 0}]}
        callbacks = _callbacks(trainer, checkpoint["callbacks"], goes_on=goes_on)
        like |= {"callbacks": callbacks, KEPT: {"random": _Each(_generators())}}
    if odd := unlike(checkpoint, like) or _optimizers(trainer, checkpoint["optimizer_states"]):
        raise WrongInputError(f"{trainer.ckpt_path} cannot be resumed: {odd}")


def check_samples(trainer: L.Trainer, folder: Path, processes: int) -> None:
    """Refuse to go on with batches of another number of samples over all processes.

    Args:
        trainer: Of the run that is resumed.
        folder: The run's.
        processes: How many it had.
    """
    loading = getattr(trainer.datamodule, "loading", None)  # type: ignore[attr-defined]
    size = flat(read(folder / CONFIG)).get(BATCH_SIZE)
    if isinstance(loading, Loading) and size is not None:
        before, now = size * processes, loading.batch_size * trainer.world_size
        if before != now:
            raise WrongInputError(
                f"the run was trained with {before} samples a batch, over all processes, and would resume with "
                f"{now}: set {BATCH_SIZE} so that it stays the same"
            )


def _generators() -> dict[str, Any]:
    """The generators' states now: of any number of CUDA devices, and with or without a normal number in stock."""
    live = random_states.torch_states() | random_states.other_states()
    version, numbers, _ = live["python"]
    cuda, numpy = _Each(Tensor), (*live["numpy"][:4], None)
    return {"torch": live["torch"], "cuda": cuda, "python": (version, numbers, None), "numpy": numpy}


def _callbacks(trainer: L.Trainer, states: Mapping[str, Any], *, goes_on: bool) -> dict[str, Any]:
    """What callbacks of ours and of Lightning keep; what is new may begin with this run, as may a gradient report."""
    like: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        key = callback.state_key
        if isinstance(callback, GradientMonitor):
            if states.get(key, {}) == {}:
                log.warning("the gradient report begins here: the checkpoint has none of the steps before")
            else:
                like[key] = _MONITOR
        elif type(callback).__module__.partition(".")[0] in ("unvanish", "lightning"):
            is_new = key not in states and (not goes_on or isinstance(callback, FiniteSteps))
            if not is_new and (state := callback.state_dict()):
                is_open = isinstance(callback, Checkpoint)
                like[key] = {name: None if is_open else value for name, value in state.items()}
    return like


def _schedulers(trainer: L.Trainer, states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What those of the run keep; of what a class keeps for itself, which differs between versions, what is there."""
    like = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
    there = [*states, *[{}] * len(like)]
    return [
        {key: value for key, value in one.items() if not key.startswith("_") or key in there[i]}
        for i, one in enumerate(like)
    ]


def _optimizers(trainer: L.Trainer, states: Sequence[Any]) -> str:
    if not trainer.strategy.lightning_restore_optimizer:
        return ""
    optimizers = trainer.optimizers
    if len(states) != len(optimizers):
        return f"optimizer_states has {len(states)} entries instead of {len(optimizers)}"
    pairs = enumerate(zip(states, optimizers, strict=True))
    return next(filter(None, (_optimizer(one, which, f"optimizer_states[{i}]") for i, (one, which) in pairs)), "")


def _optimizer(state: Any, optimizer: torch.optim.Optimizer, name: str) -> str:
    """Says what of an optimizer's state does not fit it: it is loaded into a twin, and set beside that of a first step.

    The twins' parameters are shapes alone.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    shapes = {id(p): torch.empty_like(p, device="meta").requires_grad_(p.requires_grad) for p in parameters}
    if any(hasattr(p, "to_local") for p in parameters):  # sharded
        return ""
    loaded, fresh = (copy.deepcopy(optimizer, dict(shapes)) for _ in range(2))
    try:
        loaded.load_state_dict(state)
    except Exception as error:  # whatever a class makes of what is not its own
        # One that wraps another optimizer has more than its twin; it is loaded itself later.
        return "" if isinstance(error, AttributeError) else f"{name}: {one_line(error)}"
    if astray := [key for key in loaded.state if not isinstance(key, Tensor)]:
        return f"{name}.state[{astray[0]!r}] belongs to no parameter"
    for shape in shapes.values():
        shape.grad = torch.zeros_like(shape)
    try:
        fresh.step()
    except Exception:  # it needs more than gradients, such as the loss itself
        fresh.state.clear()
    here, there = fresh.state_dict(), loaded.state_dict()
    for which, like in enumerate(here["param_groups"]):
        if odd := unlike(there["param_groups"][which], like, f"{name}.param_groups[{which}]"):
            return odd
    if missing := len(here["state"].keys() - there["state"].keys()):
        if not there["state"]:
            return f"{name}.state is empty"
        log.warning("%d of %d parameters have no state in the optimizer: they begin anew", missing, len(here["state"]))
    shared = {key: like for key, like in here["state"].items() if key in there["state"]}
    return unlike(there["state"], shared, f"{name}.state")


def unlike(value: Any, like: Any, name: str = "") -> str:
    """Says which entry of a value is missing or not like that of an example, the first one; empty if all are.

    Args:
        value: Of a checkpoint.
        like: A table with the entries that are needed, ``_Each`` of a list, a list or tuple of as many, a tensor of the
            shape, a number as large as 0 or more where it is, a class; None for whatever it may be.
        name: Where it is.
    """
    if like is None:
        return ""
    if not isinstance(like, Mapping | list | tuple):
        return _unlike_one(value, like, name)
    if not isinstance(value, Mapping if isinstance(like, Mapping) else list | tuple):
        return f"{name} is of type {type(value).__name__}"
    if isinstance(like, Mapping):
        inner = [(f"{name}.{key}" if name else str(key), key, one) for key, one in like.items()]
        found = (unlike(value[key], one, where) if key in value else f"{where} is missing" for where, key, one in inner)
    else:
        each = [like.like] * len(value) if isinstance(like, _Each) else like or [None] * len(value)
        if len(value) != len(each):
            return f"{name} has {len(value)} entries instead of {len(each)}"
        found = (unlike(one, of, f"{name}[{i}]") for i, (one, of) in enumerate(zip(value, each, strict=True)))
    return next(filter(None, found), "")


def _unlike_one(value: Any, like: Any, name: str) -> str:
    """The same of a tensor, a number, a word or a class."""
    if isinstance(like, Tensor) and isinstance(value, Tensor):
        if value.shape != like.shape:
            return f"{name} has the shape {tuple(value.shape)}, and needs {tuple(like.shape)}"
        if value.is_floating_point() != like.is_floating_point():
            return f"{name} is of {value.dtype}, and needs {like.dtype}"
        if like.dim() or like.is_meta or value.is_meta:
            return ""
        value, like = value.item(), like.item()
    kinds = [like if isinstance(like, type) else type(like)]
    if kinds == [float] or (isinstance(like, Tensor) and not like.dim()):
        kinds += [int, float]
    if not isinstance(value, tuple(kinds)) or (isinstance(value, bool) and bool not in kinds):
        return f"{name} is of type {type(value).__name__}"
    if isinstance(value, int | float) and isinstance(like, int | float) and not math.isinf(like):
        is_odd = not (math.isnan(value) or abs(value) < 2**63) or (math.isnan(value) and not math.isnan(like))
        return f"{name} is {value}" if is_odd or value < 0 <= like else ""
    return ""
