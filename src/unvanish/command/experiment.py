"""Turns a recipe and the command line into a network, its data and the arguments of a trainer."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import lightning as L
import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unvanish import trust
from unvanish.bounds import Bounded
from unvanish.command import data_files
from unvanish.command.allowed import check_recipe, check_values, where
from unvanish.command.errors import WrongInputError, as_wrong_input, one_line
from unvanish.command.hints import located, unknown_key
from unvanish.command.recipes import Config, Recipe, flat
from unvanish.data import InMemoryData
from unvanish.gradients import GradientMonitor
from unvanish.names import unknown
from unvanish.training import ReferenceModule

# What the data knows of itself is not asked of the user.
_FROM_DATA = {
    "model.input_shape": "input_shape",
    "model.output_size": "output_size",
    "model.vocabulary_size": "vocabulary_size",
    "model.padding_index": "padding_index",
    "model.training.task": "task",
}
_GROUPS = ("model", "data", "trainer", "gradients")
#: What a class that a recipe names must be.
_KINDS = (
    *(nn.Module, L.LightningDataModule, L.Callback, Logger, Optimizer, LRScheduler),
    *(Strategy, Accelerator, Profiler, Precision, CheckpointIO, ClusterEnvironment, LayerSync),  # the trainer's parts
)
for bounded in Bounded.__subclasses__():
    register_type(bounded, bounded.kind, bounded.read, type_check=lambda value, _: isinstance(value, int | float))
#: All that jsonargparse was ever told to let in, as it forgets nothing.
_let_in: set[str] = set()


class Built(NamedTuple):
    """What an experiment is made of: the network, its data, what the trainer is called with, and what the data said."""

    model: ReferenceModule
    data: L.LightningDataModule
    trainer_options: Config
    monitor: GradientMonitor
    said: list[str]


@dataclass(frozen=True)
class Experiment:
    """A parsed recipe, completed with all defaults.

    Args:
        recipe: The recipe as read.
        parser: The parser of the arguments of its network, its data, the trainer and the monitor.
        arguments: The parsed values.
    """

    recipe: Recipe
    parser: ArgumentParser
    arguments: Namespace

    @classmethod
    def parse(cls, recipe: Recipe, overrides: list[str]) -> Self:
        """Parse a recipe with overrides like ``--model.activation=tanh``, and fill in all defaults.

        A recipe is read as if its keys had been typed, so that one mechanism checks both, and an error in either reads
        the same. Nothing is imported but what is allowed (see ``unvanish.trust``).
        """
        check_recipe(recipe)
        _guard()
        groups = {key: {} if key in _GROUPS and value is None else value for key, value in recipe.config.items()}
        paths = flat(groups)
        parser = _parser(paths.get("model.class_path"), paths.get("data.class_path"), recipe)
        config = flat(groups, whole=list(parser.get_defaults().keys()))
        # An empty group, of which a default would be left alone, is no argument.
        typed = [
            f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in config.items()
            if key not in (*_GROUPS, "model.class_path", "data.class_path")
        ]
        try:
            arguments = parser.parse_args([*typed, *overrides])
        except Exception as error:  # jsonargparse raises many kinds
            raise WrongInputError(_explain(error, parser, overrides, recipe)) from error
        with _located(recipe):
            check_values(arguments, _KINDS)
        return cls(recipe, parser, arguments)

    def resolved(self) -> str:
        """The whole configuration as YAML, which is itself a valid recipe."""
        config = {"name": self.recipe.name} | yaml.safe_load(self.parser.dump(self.arguments, skip_unset=False))
        for group in ("model", "data"):
            config[group] = {"class_path": self.recipe.config[group]["class_path"], **config.get(group, {})}
        return str(yaml.safe_dump(config, sort_keys=False))

    def build(self) -> Built:
        """Read the data and draw the network's weights; whatever is wrong shows here, before anything is written."""
        with _located(self.recipe), data_files.said() as said:
            L.seed_everything(self.arguments.seed, workers=True, verbose=False)
            objects = self._instantiate()
            objects.data.prepare_data()
            objects.data.setup("fit")
            objects.data.train_dataloader()
            options = vars(objects.trainer)
            callbacks = options["callbacks"] or []
            options["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
            for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
                if isinstance(options[name], int | float) and options[name] <= 0:  # Lightning divides by it
                    raise ValueError(f"trainer.{name} is {options[name]}; it must be above 0")
            # Neither is kept: they would find a mistake only after the run has its folder.
            objects.model.configure_optimizers()
            objects.model.weigh_classes(objects.data)
            if objects.model.settings.early_stopping is not None and not has_validation_split(objects.data):
                raise ValueError("early_stopping needs a validation split, and the data has none")
            L.Trainer(**options | {"logger": False, "callbacks": list(options["callbacks"])})  # it adds its own
        return Built(objects.model, objects.data, options, objects.gradients, said)

    def _instantiate(self) -> Any:
        try:
            return self.parser.instantiate(self.arguments)
        except AttributeError as error:
            if error.name not in _FROM_DATA.values():
                raise
            raise ValueError(f"{self.recipe}: the data has no {error.name!r}, which the network asks it for") from error


def _parser(model_path: Any, data_path: Any, recipe: Recipe) -> ArgumentParser:
    parser = ArgumentParser(prog="unvanish", exit_on_error=False, allow_abbrev=False, add_help=False)
    parser.add_argument("--seed", type=int, default=0, help="Fixes the weights, dropout and the batches' order.")
    model_class = _import(model_path, "model", ReferenceModule, recipe)
    data_class = _import(data_path, "data", L.LightningDataModule, recipe)
    parser.add_class_arguments(model_class, "model")
    parser.add_class_arguments(data_class, "data")
    parser.add_class_arguments(L.Trainer, "trainer", instantiate=False)
    parser.add_class_arguments(GradientMonitor, "gradients")
    known = list(parser.get_defaults().keys())
    for target, attribute in _FROM_DATA.items():
        if target in known:
            parser.link_arguments(f"data.{attribute}", target, apply_on="instantiate")
    if "data.loading.seed" in known:
        parser.link_arguments("seed", "data.loading.seed")
    return parser


def _import(path: Any, group: str, kind: type, recipe: Recipe) -> type:
    """The class that a recipe names under ``<group>.class_path``."""
    if not isinstance(path, str):
        raise WrongInputError(f"{recipe}: {group}.class_path is missing; it names a {kind.__name__}")
    with as_wrong_input(f"{recipe}: "):
        found: type = trust.resolve(path, kind, f"{group}.class_path")
    return found


def _guard() -> None:
    """Let jsonargparse import allowed modules only."""
    now = {*trust.PACKAGES, *trust.trusted()}
    set_parsing_settings(import_path_denylist=["*", *sorted(_let_in - now)], import_path_allowlist=sorted(now))
    _let_in.update(now)


@contextmanager
def _located(recipe: Recipe) -> Iterator[None]:
    """Turn errors of wrong input into one line; for a name that is not allowed, with the line of the recipe."""
    with as_wrong_input():
        try:
            yield
        except trust.UntrustedError as error:
            raise WrongInputError(f"{where(recipe, error.path)}: {error}") from error


def _explain(error: Exception, parser: ArgumentParser, overrides: list[str], recipe: Recipe) -> str:
    """Shorten an error of jsonargparse to one line: which key, in which file, and what was expected."""
    text = str(error)
    if denied := re.search(r"Importing '([^']+)' is not allowed", text):
        try:
            trust.check(denied[1])
            reason = f"{denied[1]!r} may not be named"
        except trust.UntrustedError as refusal:
            reason = str(refusal)
        return f"{where(recipe, denied[1])}: {reason}"
    if stray := re.match(r"unrecognized arguments: --([^\s=]+)", text):
        return unknown_key(stray[1], list(parser.get_defaults().keys()), overrides, recipe)
    if named := re.match(r'Parser key "([^"]+)"', text):
        key = named[1]
        expected = re.findall(r"Expected a (.+?)(?:\. Got value.*)?$", text, re.MULTILINE)
        given = re.search(r"(?:Got|Given) value: (.*)", text)
        reason = one_line(error)
        choices = [re.findall(r"'([^']*)'", one) for one in expected if "NoneType" not in one]
        if refused := re.search(r"Not of type \w+: (is .+)", text):
            reason = f"{key} {refused[1]}"
        elif len(choices) == 1 and choices[0] and expected[0].startswith("typing.Literal") and given:
            group, _, name = key.rpartition(".")
            reason = unknown(group.rpartition(".")[2] if name == "name" else name, given[1], choices[0])
        elif expected and given:
            wanted = re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\]", r"\1\2", " or ".join(expected))
            reason = f"{key} is {given[1]!r}, expected {wanted.replace('NoneType', 'null')}"
        return located(reason, key, overrides, recipe)
    return one_line(error)


def has_validation_split(data: L.LightningDataModule) -> bool:
    """Whether a data module has a validation split."""
    return bool(data.splits.validation) if isinstance(data, InMemoryData) else is_overridden("val_dataloader", data)


def has_test_split(data: L.LightningDataModule) -> bool:
    """Whether a data module has a test split."""
    return bool(data.splits.test) if isinstance(data, InMemoryData) else is_overridden("test_dataloader", data)
