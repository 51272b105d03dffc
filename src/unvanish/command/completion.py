"""Completes verbs, recipes and keys in a shell, by argcomplete; without torch, whose import takes seconds.

Keys are the arguments of a recipe's classes, as their source files have them: the classes are not imported.
"""

import argparse
import ast
import os
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import unvanish
from unvanish.command import recipes
from unvanish.command.arguments import verbs_of
from unvanish.command.errors import WrongInputError

_PACKAGE = Path(unvanish.__file__).parent
#: What the data tells the network, and what is no key.
_HIDDEN = {"self", "input_shape", "output_size", "vocabulary_size", "padding_index", "class_path"}

_LINKED = {"model.training.task", "data.loading.seed"}


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, where it asks; it does so by variables of the environment."""
    import argcomplete

    words = shlex.split(os.environ["COMP_LINE"].partition(" ")[2].rpartition(" ")[0])
    parsers = verbs_of(parser)
    for verb, of_verb in (parsers | verbs_of(parsers["recipes"])).items():
        config = of_verb._option_string_actions.get("--config")
        if config is not None:
            config.completer = _recipes  # type: ignore[attr-defined]
            of_verb.add_argument("recipe", nargs="*").completer = _recipes  # type: ignore[attr-defined]
        for action in of_verb._actions:
            if action.dest in ("recipes", "name"):
                action.completer = _recipes  # type: ignore[attr-defined]
        if words[:1] == [verb]:
            for key in keys_of(words[1:]):
                of_verb.add_argument(f"--{key}")
    argcomplete.autocomplete(parser, always_complete_options=False)


def _recipes(**_: Any) -> list[str]:
    return recipes.names()


def keys_of(words: list[str]) -> list[str]:
    """The keys of the first recipe among some words; none where there is none."""
    for word in words:
        try:
            config = recipes.read(recipes.locate(word))
        except WrongInputError:
            continue
        base = config.get("base")
        if isinstance(base, str):
            config = recipes.read(recipes.locate(base))
        elif isinstance(base, dict):
            config = base
        found = ["seed"]
        for group in ("model", "data"):
            found += _arguments(str(config.get(group, {}).get("class_path", "")), f"{group}.")
        found += _arguments("lightning.Trainer", "trainer.")
        return [*found, *_arguments("unvanish.GradientMonitor", "gradients.")]
    return []


def _arguments(path: str, prefix: str) -> Iterator[str]:
    """The dotted arguments of a class of ours or of Lightning's Trainer."""
    node = _class_of(path)
    if node is None:
        return
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        pairs = [(a.arg, a.annotation) for a in (*init.args.args, *init.args.kwonlyargs)]
    else:  # a dataclass
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        pairs = [(n.target.id, n.annotation) for n in fields if isinstance(n.target, ast.Name)]
    for name, annotation in pairs:
        if name in _HIDDEN or f"{prefix}{name}" in _LINKED:
            continue
        if isinstance(annotation, ast.Name) and annotation.id in unvanish.__all__:
            yield from _arguments(f"unvanish.{annotation.id}", f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _class_of(path: str) -> ast.ClassDef | None:
    return _classes(path.partition(".")[0]).get(path.rpartition(".")[2])


@cache
def _classes(package: str) -> dict[str, ast.ClassDef]:
    """The classes that a recipe may name, by their names."""
    if package == "unvanish":
        rooms = ("networks", "training", "data", "gradients/adapters")
        files = [file for room in rooms for file in sorted((_PACKAGE / room).rglob("*.py"))]
    elif package == "lightning" and (spec := find_spec(package)) and spec.origin:
        files = [Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"]
    else:
        files = []
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
