"""Checks which code a recipe names, before anything is imported; what is typed on the command line is trusted."""

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
    """The modules of all dotted names that the user has typed on the command line, and so trusts."""
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
    """Trust the modules that a command line names, until the context ends.

    Raises:
        WrongInputError: a value of ``--trust`` is not the name of a module.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(trust.trusting([*getattr(options, "trust", []), *typed(options, rest)]))
        except ValueError as error:
            raise WrongInputError(f"--trust: {error}") from error
        yield


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that names code it may not import. Nothing is imported by this check.

    Raises:
        WrongInputError: it names such code; the message has the file, the line, the key, and the option that allows it.
    """
    for key, name in _named(recipe.config):
        try:
            trust.check(name)
        except UntrustedError as error:
            raise WrongInputError(f"{where(recipe, name)}: {key} {error}") from error


def where(recipe: Recipe, name: str) -> str:
    """The file and the line in which a recipe names something; all of its files if none of them contains the name."""
    pattern = re.compile(rf"^[^#]*(?<![\w.]){re.escape(name)}(?![\w.])", re.MULTILINE)
    for path in reversed(recipe.paths):
        if path.is_file() and (found := pattern.search(text := path.read_text(encoding="utf-8"))):
            return f"{path}, line {text.count(chr(10), 0, found.end()) + 1}"
    return str(recipe)


def check_values(arguments: Any, kinds: tuple[type, ...]) -> None:
    """Check the classes and functions among a parser's values before any of them is called.

    Raises:
        UntrustedError: one belongs to a module that is not allowed.
        ValueError: one derives from none of ``kinds``.
    """
    for value in _values(arguments):
        if isinstance(value, str):
            trust.resolve(value, kinds, "class_path")
        else:
            trust.check_object(getattr(value, "__qualname__", type(value).__qualname__), value)


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Pairs (key, dotted name) of all keys of a configuration whose values name code."""
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
    """The names of the classes that the parser will call, and the classes and functions it has already imported."""
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
