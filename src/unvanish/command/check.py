"""``unvanish check``: tests whether a network fulfils the contract of an architecture."""

import logging
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, final

import lightning as L

from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import Recipe, load
from unvanish.names import lookup
from unvanish.testing import contract
from unvanish.training import OBJECTIVES

#: As options of the command line; and, but for the task, as a network's arguments.
_SIZES = ("task", "input_shape", "output_size", "vocabulary_size", "padding_index")


@final
class Sizes(L.LightningDataModule):
    """A data module without data: it only has the attributes that a network is built from."""

    def __init__(
        self,
        task: str,
        input_shape: tuple[int, ...],
        output_size: int,
        vocabulary_size: int | None = None,
        padding_index: int | None = None,
    ) -> None:
        super().__init__()
        self.task = task
        self.input_shape = input_shape
        self.output_size = output_size
        self.vocabulary_size = vocabulary_size
        self.padding_index = padding_index

    def train_dataloader(self) -> list[Any]:
        """No batches."""
        return []


def check(options: Namespace, overrides: list[str]) -> int:
    """Print a line for each clause of the contract. Returns 1 if the network breaks any of them, else 0."""
    given = {name: getattr(options, name) for name in _SIZES if getattr(options, name) is not None}
    recipe = _recipe(options, given)
    if options.network:
        overrides = [re.sub(r"^--(model\.)?", "--model.", word) for word in overrides]
    logging.getLogger("unvanish").setLevel(logging.WARNING)  # each of many networks would say how it is initialized
    built = Experiment.parse(recipe, overrides).build()
    sizes = {name: getattr(built.data, name, None) for name in _SIZES}
    default = " (by default)" if options.network else ""
    said = [f"{name} {value}{default * (name not in given)}" for name, value in sizes.items() if value is not None]
    print(f"{type(built.model).__name__}: {', '.join(said)}")
    failures = 0
    arguments = dict(built.model.hparams) | {name: value for name, value in sizes.items() if name != "task"}
    with as_wrong_input():
        for clause, broken in contract(type(built.model), arguments):
            print(f"FAILED  {clause}: {broken}" if broken else f"ok      {clause}", flush=True)
            failures += broken is not None
    return int(failures > 0)


def _recipe(options: Namespace, given: dict[str, Any]) -> Recipe:
    """The recipe of the command line; for the dotted path of a network, a recipe whose data is ``Sizes``."""
    if not options.network:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise WrongInputError(f"--{option} goes with the path of a network; the data of a recipe has its own")
        if not options.config:
            raise WrongInputError("which network? Give its dotted path, such as unvanish.MLP, or -c RECIPE")
        return load(options.config, options.variant)
    if options.config:
        raise WrongInputError(f"either {options.network} or the network of -c {options.config[0]}, not both")
    if options.input_shape:
        try:
            given = given | {"input_shape": [int(size) for size in options.input_shape.split(",")]}
        except ValueError as error:
            text = f"--input-shape is {options.input_shape!r}; it is whole numbers such as 3,32,32"
            raise WrongInputError(text) from error
    task = given.get("task", "multiclass")
    with as_wrong_input("--task: "):
        lookup("task", task, OBJECTIVES)
    sizes: dict[str, Any] = {"task": task}
    if task == "next_token":
        sizes["vocabulary_size"] = given.get("output_size", 65)
    tokens = "vocabulary_size" in sizes | given
    sizes["input_shape"] = [16] if tokens else [3, 32, 32]
    sizes["output_size"] = {"binary": 1, "regression": 2, "next_token": given.get("vocabulary_size", 65)}.get(task, 10)
    data = {"class_path": f"{__name__}.{Sizes.__name__}", **sizes, **given}
    return Recipe("check", [Path(options.network)], {"model": {"class_path": options.network}, "data": data})
