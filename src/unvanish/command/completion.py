"""Completes verbs, recipes and keys in a shell, by argcomplete; without torch, whose import takes seconds."""

import argparse
import os
import shlex
from typing import Any

from unvanish.command import recipes
from unvanish.command.arguments import verbs_of
from unvanish.command.errors import WrongInputError
from unvanish.command.keys import keys


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
        return keys(*(str(config.get(group, {}).get("class_path", "")) for group in ("model", "data")))
    return []
