"""Finds the checkpoint of a run and checks that it fits before it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from unvanish.command.checkpoint_file import has_checksum, newest_good, read
from unvanish.command.errors import WrongInputError, as_wrong_input, one_line
from unvanish.command.run_folder import numbered
from unvanish.training.shards import SHARDS, damage, gathered

BEST, LAST = "best.ckpt", "last.ckpt"
#: The key under which a checkpoint holds what Lightning does not save.
KEPT = "unvanish"


def newest_run(parent: Path) -> Path:
    """The newest run of a recipe that has a checkpoint."""
    return runs_of(parent)[-1]


def runs_of(parent: Path) -> list[Path]:
    """The runs of a recipe that have a checkpoint, newest last; at least one."""
    runs = [path for path in numbered(parent) if any(path.glob("checkpoints/*.ckpt"))]
    if not runs:
        raise WrongInputError(
            f"no run with a checkpoint in {parent}: train one with `unvanish fit`, or name a checkpoint by --ckpt_path"
        )
    return runs


def checkpoint_of(run: Path) -> Path:
    """The best checkpoint of a run, or the last one if there was no validation."""
    for name in (BEST, LAST):
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise WrongInputError(f"{run} has no checkpoint")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a network's checkpoint, where shards are not read: their tensors are empty.

    If it is damaged, the error names the newest good one beside it.
    """
    try:
        checkpoint = read(path)
        if odd := damage(checkpoint, path):
            raise WrongInputError(f"{path} cannot be loaded: {odd}")
    except WrongInputError as error:
        other = newest_good(path.parent, path) if path.is_file() else None
        if other is None:
            raise
        raise WrongInputError(f"{error}; the newest good one beside it is {other}: --ckpt_path {other}") from error
    if KEPT in checkpoint and has_checksum(path) is None:
        raise WrongInputError(f"{path} is damaged: it was written with a checksum, and has none")
    for key, kind in (("state_dict", Tensor), ("hyper_parameters", object)):
        if not _is_table(checkpoint.get(key), kind):
            what = f"is of type {type(checkpoint[key]).__name__}" if key in checkpoint else "is missing"
            raise WrongInputError(f"{path} is not a checkpoint of a network: {key} {what}")
    return checkpoint


def with_weights(path: Path) -> dict[str, Any]:
    """The same with its weights, also where they are sharded; the optimizer's state stays where it is."""
    checkpoint = load_checkpoint(path)
    with as_wrong_input():
        return gathered(checkpoint, path, ("state_dict",))


def load_weights(path: Path, model: LightningModule, *, shards: bool = True) -> dict[str, Any]:
    """Load a checkpoint's weights into a network, after checking that they are its own; returns the whole content.

    Args:
        path: Of the checkpoint.
        model: The network.
        shards: Whether sharded weights are put together; each process that goes on training reads its own.
    """
    checkpoint = load_checkpoint(path)
    saved, arguments = checkpoint["state_dict"], checkpoint["hyper_parameters"]
    # Two networks of the same shapes may still compute different things.
    pairs = [(name, arguments.get(name), value) for name, value in model.hparams.items() if name != "training"]
    weights = model.state_dict()
    there, here = ({name: tuple(one.shape) for name, one in some.items()} for some in (saved, weights))
    pairs += [(name, there.get(name), here.get(name)) for name in here | there]
    dtypes = [(name, one.dtype, weights[name].dtype) for name, one in saved.items() if name in weights]
    pairs += [pair for pair in dtypes if pair[1].is_floating_point != pair[2].is_floating_point]
    for name, theirs, ours in pairs:
        if theirs != ours:
            raise WrongInputError(f"{path} is of another architecture: {name} is {theirs} there and {ours} here")
    if SHARDS in checkpoint and not shards:
        return checkpoint
    try:
        with as_wrong_input():
            model.load_state_dict(gathered(checkpoint, path, ("state_dict",))["state_dict"])
    except RuntimeError as error:  # sparse, without a device, ...
        raise WrongInputError(f"{path} is not a checkpoint of a network: {one_line(error)}") from error
    return checkpoint


def _is_table(value: Any, kind: type) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())
