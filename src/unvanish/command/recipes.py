"""Recipes: YAML files that name a network, its data and what differs from the defaults."""

import itertools
import json
import math
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import unvanish
from unvanish.command import yaml_text
from unvanish.command.earlier import renamed
from unvanish.command.errors import WrongInputError, as_wrong_input, one_line
from unvanish.names import nearest

Config = dict[str, Any]

CONFIG = "config.yaml"  # what a run keeps
#: With the number of processes it makes the samples of a batch, which a run that goes on keeps.
BATCH_SIZE = "data.loading.batch_size"

_COMPARISON = {"base", "variants", "grid", "target"}
_SHAPE = "'base', a recipe or the name of one, then 'variants' or a 'grid' or both, and perhaps a 'target'"


@dataclass(frozen=True)
class Recipe:
    """A recipe as read from its files, with overlays and variant applied.

    Args:
        name: The folder of its runs below ``--runs``, such as mlp/digits.
        paths: The files it was read from, overlays last.
        config: Its keys, nested.
    """

    name: str
    paths: list[Path]
    config: Config

    def __post_init__(self) -> None:
        # Folders are made, emptied and removed by it.
        parts = self.name.split("/") if isinstance(self.name, str) else []
        if not parts or not all(re.fullmatch(r"(?!\.+$)[\w.,=+-]+", part) for part in parts):
            given = repr(self.name) if isinstance(self.name, str | None) else f"{self.name}, which is no text"
            raise WrongInputError(
                f"{self}: name is {given}; it is letters, digits and any of _.,=+- with / between its parts, such as "
                "mlp/digits"
            )

    def __str__(self) -> str:
        return " + ".join(map(str, self.paths))


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
    with suppress(OSError):  # a name that is too long for a file's
        if path.is_file():
            return path
    known = names()
    if name in known:
        return packaged() / f"{name}.yaml"
    name = f"{name[:100]}..." if len(name) > 100 else name
    raise WrongInputError(f"no recipe {name!r}: neither a file nor a packaged recipe{nearest(name, known)}")


def name_of(path: Path) -> str:
    """The name of a recipe: a packaged recipe's own, else that of its file with unusual characters replaced."""
    folder = packaged().resolve()
    path = path.resolve()
    if path.is_relative_to(folder):
        return path.relative_to(folder).with_suffix("").as_posix()
    return re.sub(r"[^\w.,=+-]+|^\.+$", "_", path.stem)


def read(path: Path) -> Config:
    """The keys of a YAML file."""
    try:
        config = yaml_text.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongInputError(f"{path} is not readable YAML: {one_line(error)}") from error
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise WrongInputError(f"{path} is not a recipe: it holds no keys")
    config = _with_changes({}, config)
    return renamed(config) if path.name == CONFIG else config


def is_comparison(config: Config) -> bool:
    """Whether a file is a comparison, which has variants of a recipe."""
    return "base" in config or "variants" in config


def variants(path: Path, grid: Config | None = None) -> dict[str, Recipe]:
    """The recipes of a comparison by name: each of its variants at each point of its grid.

    Args:
        path: The file.
        grid: Additional dotted keys, each with a list of values.
    """
    config = read(path)
    named = config.get("variants", {"": {}} if "grid" in config else None)
    if not isinstance(config.get("base"), str | dict) or not isinstance(named, dict) or config.keys() - _COMPARISON:
        raise WrongInputError(f"{path} is not a comparison: it has {_SHAPE}")
    for name, changes in named.items() or [(None, None)]:
        is_name = isinstance(name, str) and re.fullmatch(r"(?!\.+$)[\w.-]*", name)
        if not (is_name and isinstance(changes or {}, dict) and all(isinstance(key, str) for key in changes or {})):
            raise WrongInputError(f"{path}: variants are names with the keys that each of them changes, not {name!r}")
    common = _base(path, config["base"])
    points = _points(_flat_grid(config.get("grid", {}), str(path)) | (grid or {}))
    return {
        label: Recipe(f"{name_of(path)}/{label}", [path], _with_changes(common, (changes or {}) | point))
        for name, changes in named.items()
        for suffix, point in points.items()
        for label in [",".join(filter(None, (name, suffix)))]
    }


def _base(path: Path, base: str | Config) -> Config:
    """The configuration of a comparison's base, which is named or written in the file itself."""
    if isinstance(base, dict):
        config = _with_changes({}, base)
    else:
        beside = path.parent / base
        config = read(beside if beside.is_file() else locate(base))
        if is_comparison(config):
            raise WrongInputError(f"{path}: base {base!r} is a comparison; it must be a recipe")
    config.pop("name", None)  # that of its own runs
    return config


def side_by_side(names: list[str], settings: list[str]) -> dict[str, Recipe]:
    """The recipes that a command compares, by name.

    Args:
        names: Recipes and comparisons.
        settings: Texts ``KEY=V1,V2``, each of them a dimension of a grid over all recipes.
    """
    grid = dict(map(_setting, settings))
    found: dict[str, Recipe] = {}
    for name in names:
        path = locate(name)
        if is_comparison(read(path)):
            chosen = variants(path, grid)
        else:
            recipe = load([name])
            chosen = {
                suffix or recipe.name: Recipe(
                    "/".join(filter(None, (recipe.name, suffix))), recipe.paths, _with_changes(recipe.config, point)
                )
                for suffix, point in _points(grid).items()
            }
        if len(names) > 1:
            chosen = {recipe.name: recipe for recipe in chosen.values()}
        if twice := found.keys() & chosen.keys():
            raise WrongInputError(f"{min(twice)} is named twice")
        found |= chosen
    return found


def target_of(names: list[str]) -> float | None:
    """The target for the validation metric that the comparisons name; None if none does."""
    targets: set[float] = set()
    for name in names:
        config = read(locate(name))
        if is_comparison(config) and "target" in config:
            if not isinstance(config["target"], int | float):
                raise WrongInputError(f"{locate(name)}: target is {config['target']!r}, expected a number")
            targets.add(float(config["target"]))
    if len(targets) > 1:
        raise WrongInputError(f"the targets differ: {', '.join(map(str, sorted(targets)))}; choose one by --target")
    return next(iter(targets), None)


def load(names: list[str], variant: str | None = None) -> Recipe:
    """Load a recipe, or one variant of a comparison, with overlays; later overlays override earlier ones."""
    if not names:
        raise WrongInputError("which recipe? Say its name or a file; `unvanish recipes` lists the packaged ones")
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
    name, config = recipe.name, recipe.config
    for path in paths[1:]:
        overlay = read(path)
        if is_comparison(overlay):
            raise WrongInputError(f"{path} is a comparison, which cannot overlay a recipe: name it first")
        name = overlay.pop("name", name)
        config = _merged(config, overlay)
    return Recipe(name, paths, config)


def flat(config: Mapping[str, Any], prefix: str = "", whole: Collection[str] = ()) -> Config:
    """Flatten nested keys to dotted ones, except below the keys in ``whole``, whose dicts are values themselves."""
    result: Config = {}
    for key, value in config.items():
        if isinstance(value, dict) and value and f"{prefix}{key}" not in whole:
            result |= flat(value, f"{prefix}{key}.", whole)
        else:
            result[f"{prefix}{key}"] = value
    return result


def copy(name: str, target: Path) -> Path:
    """Copy a packaged recipe, with files that belong to it, to a file or into a folder. Nothing is overwritten."""
    source = locate(name)
    target = target / source.name if target.is_dir() else target
    beside = source.parent.glob(f"{source.stem}.*")
    copies = {path: target if path == source else target.with_suffix(path.suffix) for path in beside}
    for path in copies.values():
        if path.exists():
            raise WrongInputError(f"{path} exists already")
    with as_wrong_input():
        for path, place in copies.items():
            shutil.copyfile(path, place)
    return target


def _merged(under: Config, over: Config) -> Config:
    """Merge nested keys; ``over`` wins, and if it names another class, the arguments of the old one are dropped."""
    if "class_path" in over and over["class_path"] != under.get("class_path"):
        return over
    merged = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            merged[key] = _merged(under[key], over[key])
    return merged


def _with_changes(config: Config, changes: Config) -> Config:
    """A copy of ``config`` with dotted keys set."""
    for dotted, value in changes.items():
        *groups, last = dotted.split(".")
        change: Config = {last: value}
        for group in reversed(groups):
            change = {group: change}
        config = _merged(config, change)
    return config


def _setting(text: str) -> tuple[str, list[Any]]:
    """The key and the values of ``KEY=V1,V2``, which are read as YAML."""
    key, equals, values = text.partition("=")
    try:
        found = yaml_text.parse(f"[{values}]")
    except yaml.YAMLError as error:
        raise WrongInputError(f"--set {text}: {one_line(error)}") from error
    if not key or not equals or not found:
        raise WrongInputError(f"--set is {text!r}; it is KEY=V1,V2, such as model.num_layers=5,10,20")
    return key.removeprefix("--"), found


def _flat_grid(grid: Any, where: str) -> Config:
    """The dotted keys of a comparison's grid, each with a list of values."""
    dotted = flat(grid) if isinstance(grid, dict) else {"grid": None}
    for key, values in dotted.items():
        if not isinstance(values, list) or not values:
            raise WrongInputError(f"{where}: a grid has keys with lists of values; {key} has {values!r}")
    return dotted


def _points(grid: Config) -> dict[str, Config]:
    """The points of a grid by names like ``num_layers=5,activation=tanh``; an empty grid has one point, named ""."""
    short = [key.rpartition(".")[2] for key in grid]
    labels = short if len(set(short)) == len(short) else list(grid)
    texts = [_texts(values) for values in grid.values()]
    names = (zip(labels, point, strict=True) for point in itertools.product(*texts))
    values = (dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values()))
    points = {",".join(map("=".join, name)): point for name, point in zip(names, values, strict=True)}
    if len(points) < math.prod(map(len, texts)):
        raise WrongInputError(f"a grid has two values of one name: {', '.join(points)}")
    return points


def _texts(values: list[Any]) -> list[str]:
    """Values as parts of a name. Whole numbers get leading zeros, because TensorBoard sorts names as text."""
    texts = [re.sub(r"[^\w.+-]+", "_", json.dumps(value).strip('[]"')) for value in values]
    if all(text.isdecimal() for text in texts):
        return [text.zfill(max(map(len, texts))) for text in texts]
    return texts
