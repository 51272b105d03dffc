"""Finds a run's checkpoint and makes sure that it fits before anything is started with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from unvanish.command.checkpoint_file import has_checksum, newest_good, read
from unvanish.command.errors import WrongInputError
from unvanish.command.run_folder import numbered

BEST, LAST = "best.ckpt", "last.ckpt"
#: Under this name a checkpoint holds what Lightning does not keep.
KEPT = "unvanish"


def newest_run(parent: Path) -> Path:
    """The folder of the last run of a recipe that has kept a checkpoint."""
    return runs_of(parent)[-1]


def runs_of(parent: Path) -> list[Path]:
    """The folders of a recipe's runs that have kept a checkpoint, the newest last; one at least."""
    runs = [path for path in numbered(parent) if any(path.glob("checkpoints/*.ckpt"))]
    if not runs:
        raise WrongInputError(
            f"no run with a checkpoint in {parent}: train one with `unvanish fit`, or name a checkpoint by --ckpt_path"
        )
    return runs


def checkpoint_of(run: Path) -> Path:
    """A run's best checkpoint; the last one where there was no validation to tell."""
    for name in (BEST, LAST):
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise WrongInputError(f"{run} has no checkpoint")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of a network holds; where it is damaged, the newest good one beside it is named."""
    try:
        checkpoint = read(path)
    except WrongInputError as error:
        other = newest_good(path.parent, path) if path.is_file() else None
        if other is None:
            raise
        raise WrongInputError(f"{error}; the newest good one beside it is {other}: --ckpt_path {other}") from error
    if KEPT in checkpoint and has_checksum(path) is None:
        raise WrongInputError(f"{path} is damaged: it was written with a checksum, and has none")
    for key, kind in (("state_dict", Tensor), ("hyper_parameters", object)):
        if not _is_table(checkpoint.get(key), kind):
            raise WrongInputError(f"{path} is not a checkpoint of a network: {key} {_what(checkpoint, key)}")
    return checkpoint


def load_weights(path: Path, model: LightningModule) -> dict[str, Any]:
    """Give a network the weights of a checkpoint, refusing one that is none or is another network's; returns it all."""
    checkpoint = load_checkpoint(path)
    saved, arguments = checkpoint["state_dict"], checkpoint["hyper_parameters"]
    # Two networks of the same shapes may still compute different things.
    pairs = [(name, arguments.get(name), value) for name, value in model.hparams.items() if name != "training"]
    there, here = (
        {name: tuple(tensor.shape) for name, tensor in weights.items()} for weights in (saved, model.state_dict())
    )
    pairs += [(name, there.get(name), here.get(name)) for name in here | there]
    for name, theirs, ours in pairs:
        if theirs != ours:
            raise WrongInputError(f"{path} is of another architecture: {name} is {theirs} there and {ours} here")
    model.load_state_dict(saved)
    return checkpoint


def check_resumable(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that has weights alone, or something else in the place of the rest."""
    kinds = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "global_step": int}
    for key, kind in {**kinds, "pytorch-lightning_version": str}.items():
        if not isinstance(checkpoint.get(key), kind):
            raise WrongInputError(f"{path} cannot be gone on from: {key} {_what(checkpoint, key)}")
    if not _is_table(checkpoint["loops"].get("fit_loop"), object):
        raise WrongInputError(f"{path} cannot be gone on from: it does not say how far its run had come")


def _is_table(value: Any, kind: type) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())


def _what(checkpoint: Mapping[str, Any], key: str) -> str:
    return f"is of type {type(checkpoint[key]).__name__}" if key in checkpoint else "is missing"
