"""Completes verbs, recipes, keys and their values in a shell, with argcomplete and without importing torch."""

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Any

from unvanish.command import recipes
from unvanish.command.arguments import verbs_of
from unvanish.command.errors import WrongInputError
from unvanish.command.keys import names_of
from unvanish.exercises import EXERCISES


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions and exit, if the shell asks for them through environment variables."""
    import argcomplete

    words = shlex.split(os.environ["COMP_LINE"].partition(" ")[2].rpartition(" ")[0])
    of_recipe = keys_of(words[1:])
    completers = {
        "config": _recipes,
        "set": lambda **_: [f"{key}={name}" for key, names in of_recipe.items() for name in names or [""]],
        "variant": lambda **_: [name for word in words[1:] for name in _read(word).get("variants") or ()],
    }
    parsers = verbs_of(parser)
    for verb, of_verb in (parsers | verbs_of(parsers["recipes"])).items():
        if "--config" in of_verb._option_string_actions:
            of_verb.add_argument("recipe", nargs="*").completer = _recipes  # type: ignore[attr-defined]
        own = completers | {"name": _exercises if verb == "exercise" else _recipes}
        own |= {"recipes": _recipes, "run": _recipes}
        for action in of_verb._actions:
            if action.dest in own:
                action.completer = own[action.dest]  # type: ignore[attr-defined]
        if words[:1] == [verb]:
            for key, names in of_recipe.items():
                of_verb.add_argument(f"--{key}", choices=names or None)
    argcomplete.autocomplete(parser, always_complete_options=False)


def _recipes(prefix: str, **_: Any) -> list[str]:
    """The packaged recipes, and the YAML files and folders in the current folder."""
    from argcomplete.completers import FilesCompleter

    return [*recipes.names(), *FilesCompleter(("yaml", "yml"))(prefix)]


def _exercises(prefix: str, **_: Any) -> list[str]:
    """The exercises by number; by the names of their formulas once a letter has been typed."""
    return [exercise.function if prefix[:1].isalpha() else name for name, exercise in EXERCISES.items()]


def _read(word: str) -> recipes.Config:
    """The recipe of this name; empty if there is none."""
    try:
        return recipes.read(recipes.locate(word))
    except WrongInputError:
        return {}


def keys_of(words: Sequence[str]) -> dict[str, list[str]]:
    """The keys of the first recipe among ``words``, each with the values it allows; empty if no word is a recipe."""
    config = next(filter(None, map(_read, words)), None)
    if config is None:
        return {}
    base = config.get("base", config)
    if isinstance(base, str):
        base = _read(base)
    return names_of(*(str(base.get(group, {}).get("class_path", "")) for group in ("model", "data")))
