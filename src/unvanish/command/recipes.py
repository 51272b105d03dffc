"""Recipes: YAML files that name a network, its data and what differs from the defaults."""

import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import unvanish
from unvanish.command.errors import WrongInputError, as_wrong_input, one_line
from unvanish.names import nearest

Config = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A recipe as read, overlays and variant included.

    Args:
        name: What its runs are filed under, such as mlp/digits.
        paths: The files it comes from, overlays last.
        config: Its keys, nested.
    """

    name: str
    paths: list[Path]
    config: Config

    def __str__(self) -> str:
        return " + ".join(map(str, self.paths))


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML reads 1e-3, which has no dot, as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def packaged() -> Path:
    """The folder of the recipes that come with the package."""
    package = Path(unvanish.__file__).parent
    in_wheel = package / "recipes"
    return in_wheel if in_wheel.is_dir() else package.parents[1] / "recipes"


def names() -> list[str]:
    """The names of the packaged recipes and comparisons."""
    folder = packaged()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def locate(name: str) -> Path:
    """The file of a recipe, given by its path or by the name of a packaged one."""
    path = Path(name)
    if path.is_file():
        return path
    known = names()
    if name in known:
        return packaged() / f"{name}.yaml"
    raise WrongInputError(f"no recipe {name!r}: neither a file nor a packaged recipe{nearest(name, known)}")


def name_of(path: Path) -> str:
    """What the runs of a recipe are filed under: a packaged one's name, else the file's."""
    folder = packaged().resolve()
    path = path.resolve()
    if path.is_relative_to(folder):
        return path.relative_to(folder).with_suffix("").as_posix()
    return path.stem


def read(path: Path) -> Config:
    """The keys of a YAML file."""
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongInputError(f"{path} is not readable YAML: {one_line(error)}") from error
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise WrongInputError(f"{path} is not a recipe: it holds no keys")
    return _with_changes({}, config)


def is_comparison(config: Config) -> bool:
    """Whether a file sets variants of a recipe side by side."""
    return "variants" in config


def variants(path: Path) -> dict[str, Recipe]:
    """The recipes that a comparison sets side by side, by name."""
    config = read(path)
    named = config["variants"]
    if config.keys() != {"base", "variants"} or not isinstance(config["base"], str) or not isinstance(named, dict):
        raise WrongInputError(f"{path} is not a comparison: it has two keys, 'base', a recipe, and 'variants'")
    for name, changes in named.items() or [(None, None)]:
        if not (isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) and isinstance(changes or {}, dict)):
            raise WrongInputError(f"{path}: variants are names with the keys that each of them changes, not {name!r}")
    base = path.parent / config["base"]
    common = read(base if base.is_file() else locate(config["base"]))
    return {
        name: Recipe(f"{name_of(path)}/{name}", [path], _with_changes(common, changes or {}))
        for name, changes in named.items()
    }


def load(names: list[str], variant: str | None = None) -> Recipe:
    """A recipe with overlays, the later over the earlier; of a comparison, one variant."""
    if not names:
        raise WrongInputError("which recipe? Say -c NAME or -c FILE; `unvanish recipes` lists the packaged ones")
    paths = [locate(name) for name in names]
    first = read(paths[0])
    if is_comparison(first):
        choice = variants(paths[0])
        if variant not in choice:
            asked = "needs --variant" if variant is None else f"has no variant {variant!r}"
            raise WrongInputError(f"{paths[0]} is a comparison and {asked}: {', '.join(choice)}")
        recipe = choice[variant]
    elif variant is not None:
        raise WrongInputError(f"--variant is for comparisons; {paths[0]} is a recipe")
    else:
        recipe = Recipe(first.pop("name", name_of(paths[0])), paths[:1], first)
    config = recipe.config
    for path in paths[1:]:
        overlay = read(path)
        if is_comparison(overlay):
            raise WrongInputError(f"{path} is a comparison, which cannot overlay a recipe: name it first")
        config = _merged(config, overlay)
    return Recipe(recipe.name, paths, config)


def flat(config: Mapping[str, Any], prefix: str = "", whole: Collection[str] = ()) -> Config:
    """Nested keys as dotted ones; what a key of ``whole`` holds, a dict that is itself a value, stays as it is."""
    result: Config = {}
    for key, value in config.items():
        if isinstance(value, dict) and value and f"{prefix}{key}" not in whole:
            result |= flat(value, f"{prefix}{key}.", whole)
        else:
            result[f"{prefix}{key}"] = value
    return result


def copy(name: str, target: Path) -> Path:
    """Copy a packaged recipe to a file, or into a folder; nothing is overwritten."""
    source = locate(name)
    target = target / source.name if target.is_dir() else target
    if target.exists():
        raise WrongInputError(f"{target} exists already")
    with as_wrong_input():
        shutil.copyfile(source, target)
    return target


def _merged(under: Config, over: Config) -> Config:
    """Nested keys of both, those of ``over`` first; another class brings none of the arguments of the one before."""
    if "class_path" in over and over["class_path"] != under.get("class_path"):
        return over
    merged = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            merged[key] = _merged(under[key], over[key])
    return merged


def _with_changes(config: Config, changes: Config) -> Config:
    """``config`` with dotted keys set."""
    for dotted, value in changes.items():
        *groups, last = dotted.split(".")
        change: Config = {last: value}
        for group in reversed(groups):
            change = {group: change}
        config = _merged(config, change)
    return config
