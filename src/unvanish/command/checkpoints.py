"""Finds a run's checkpoint and makes sure that it fits before anything is started with it."""

import pickle
from pathlib import Path

import torch
from torch import nn

from unvanish.command.errors import WrongInputError
from unvanish.command.recipes import Recipe

BEST, LAST = "best.ckpt", "last.ckpt"


def find_checkpoint(recipe: Recipe, runs: Path) -> Path:
    """The best checkpoint of the run whose configuration ``recipe`` is, else of the recipe's newest run."""
    beside = recipe.paths[0].parent / "checkpoints" / BEST
    if beside.is_file():
        return beside
    found = [path for path in (runs / recipe.name).glob(f"*/checkpoints/{BEST}") if path.parts[-3].isdigit()]
    if not found:
        raise WrongInputError(
            f"no run of {recipe.name} in {runs}: train one with `unvanish fit`, or name a checkpoint with --ckpt_path"
        )
    return max(found, key=lambda path: int(path.parts[-3]))


def load_weights(path: Path, model: nn.Module) -> None:
    """Give a network the weights of a checkpoint, refusing one that is none or is another network's."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except OSError as error:
        raise WrongInputError(f"no checkpoint at {path}: {error.strerror}") from error
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise WrongInputError(f"{path} is not a checkpoint of this package") from error
    wanted = model.state_dict()
    for name in [*wanted, *(saved.keys() - wanted.keys())]:
        there = tuple(saved[name].shape) if name in saved else "absent"
        here = tuple(wanted[name].shape) if name in wanted else "absent"
        if there != here:
            raise WrongInputError(f"{path} is of another architecture: {name} is {there} there and {here} here")
    model.load_state_dict(saved)
