"""Finds a run's checkpoint and makes sure that it fits before anything is started with it."""

import pickle
from pathlib import Path

import torch
from lightning import LightningModule

from unvanish.command.errors import WrongInputError, one_line
from unvanish.command.run_folder import numbered

BEST, LAST = "best.ckpt", "last.ckpt"


def newest_run(parent: Path) -> Path:
    """The folder of the last run of a recipe that has kept a checkpoint."""
    runs = [path for path in numbered(parent) if any(path.glob("checkpoints/*.ckpt"))]
    if not runs:
        raise WrongInputError(
            f"no run with a checkpoint in {parent}: train one with `unvanish fit`, or name a checkpoint by --ckpt_path"
        )
    return runs[-1]


def checkpoint_of(run: Path) -> Path:
    """A run's best checkpoint; the last one where there was no validation to tell."""
    for name in (BEST, LAST):
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise WrongInputError(f"{run} has no checkpoint")


def load_weights(path: Path, model: LightningModule) -> None:
    """Give a network the weights of a checkpoint, refusing one that is none or is another network's."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        saved, arguments = checkpoint["state_dict"], checkpoint["hyper_parameters"]
    except OSError as error:
        raise WrongInputError(f"no checkpoint at {path}: {error.strerror}") from error
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise WrongInputError(f"{path} is not a checkpoint that can be loaded safely: {one_line(error)}") from error
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
