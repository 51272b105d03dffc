"""Holds a recipe to what it may name, before anything is imported; what is typed on the command line is trusted."""

import inspect
import json
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import yaml

from unvanish import trust
from unvanish.command import yaml_text
from unvanish.command.errors import WrongInputError
from unvanish.command.recipes import Recipe
from unvanish.trust import UntrustedError

#: The keys whose values are names of code, wherever they stand.
_NAMING = re.compile(r"(^|\.)(class_path|module|optimizer\.name|callbacks|logger|strategy|plugins|profiler)[\d.+]*$")


def typed(options: Namespace, rest: Sequence[str]) -> list[str]:
    """The modules of the names that stand on the command line itself, which is the user's own word."""
    names = [getattr(options, "network", None), options.model if options.verb == "diagnose" else None]
    for word in [*rest, *getattr(options, "set", [])]:
        key, _, value = word.removeprefix("--").partition("=")
        try:
            parsed = yaml_text.parse(f"[{value}]" if word in getattr(options, "set", []) else value)
        except yaml.YAMLError:
            continue  # whoever reads it as a value says so
        names += [name for _, name in _named(parsed, key)]
    return [name.rpartition(".")[0] for name in names if name and trust.can_be_trusted(name) and "." in name]


@contextmanager
def trusted_by(options: Namespace, rest: Sequence[str]) -> Iterator[None]:
    """Trust what a command line names.

    Raises:
        WrongInputError: ``--trust`` names no module.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(trust.trusting([*getattr(options, "trust", []), *typed(options, rest)]))
        except ValueError as error:
            raise WrongInputError(f"--trust: {error}") from error
        yield


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that names what may not be imported; nothing is.

    Raises:
        WrongInputError: it does; the message has the file, the line, the key, and how to allow it.
    """
    for key, name in _named(recipe.config):
        try:
            trust.check(name)
        except UntrustedError as error:
            raise WrongInputError(f"{where(recipe, name)}: {key} {error}") from error


def where(recipe: Recipe, name: str) -> str:
    """The file and the line in which a recipe has a name; all its files where none has it."""
    pattern = re.compile(rf"^[^#]*(?<![\w.]){re.escape(name)}(?![\w.])", re.MULTILINE)
    for path in reversed(recipe.paths):
        if path.is_file() and (found := pattern.search(text := path.read_text(encoding="utf-8"))):
            return f"{path}, line {text.count(chr(10), 0, found.end()) + 1}"
    return str(recipe)


def check_values(arguments: Any, kinds: tuple[type, ...]) -> None:
    """Refuse classes and functions among a parser's values that are of no allowed module or kind, before any is called.

    Raises:
        UntrustedError: there is one.
        ValueError: there is one of another kind.
    """
    for value in _values(arguments):
        if isinstance(value, str):
            trust.resolve(value, kinds, "class_path")
        else:
            trust.check_object(getattr(value, "__qualname__", type(value).__qualname__), value)


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The keys of a configuration whose values are dotted names of code, and these."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _named(inner, f"{key}.{index}")
    elif isinstance(value, str) and _NAMING.search(key):
        text = value.strip()
        if text[:1] in ("{", "["):  # JSON in a text, as the command line has it
            try:
                yield from _named(json.loads(text), key)
            except ValueError:
                return
        elif "." in text and not text.endswith((".yaml", ".yml", ".json")):  # a file is read, and held to the same
            yield key, text


def _values(value: Any) -> Iterator[Any]:
    """The names of classes that are to be called, and what has been imported already."""
    inner = vars(value) if hasattr(value, "as_dict") else value
    if isinstance(inner, dict):
        if hasattr(value, "as_dict") and isinstance(inner.get("class_path"), str):
            yield inner["class_path"]
        for one in inner.values():
            yield from _values(one)
    elif isinstance(inner, list | tuple | set):
        for one in inner:
            yield from _values(one)
    elif inspect.isclass(inner) or inspect.isroutine(inner):
        yield inner
