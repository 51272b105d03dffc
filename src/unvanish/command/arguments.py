"""Prepares a command line for argparse: recipes may stand without ``-c``, and misspelt verbs get a hint."""

import argparse
from collections.abc import Iterator, Sequence

from unvanish.command import recipes
from unvanish.command.errors import WrongInputError
from unvanish.names import nearest


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    (action,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {str(name): verb for name, verb in action.choices.items()}


def understood(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Rewrite the words of a command line into what the parser accepts.

    A word that belongs to no option is a recipe, as if ``-c`` stood before it. Keys of recipes, which the parser does
    not know, take one value each: ``--model.activation tanh`` becomes ``--model.activation=tanh``.

    Raises:
        WrongInputError: there is no such verb.
    """
    if not argv or argv[0].startswith("-"):
        return list(argv)
    verb, *words = argv
    verbs = verbs_of(parser)
    if verb not in verbs:
        raise WrongInputError(f"no verb {verb!r}{nearest(verb, verbs)} (there are: {', '.join(verbs)})")
    options = verbs[verb]._option_string_actions
    if "--config" in options:
        words = list(_with_recipes(words, options, takes_path=verb == "check"))
    return [verb, *words]


def _with_recipes(words: Sequence[str], options: dict[str, argparse.Action], *, takes_path: bool) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        name, has_value, _ = word.partition("=")
        if word == "--" or not word.startswith("-"):
            if word != "--":
                is_path = takes_path and not _is_recipe(word)
                yield from (word,) if is_path else ("-c", word)
        elif has_value or (name in options and options[name].nargs == 0):
            yield word
        else:
            value = next(rest, None)
            if value is None:
                yield word
            elif name in options or value.startswith("--") or value in options:
                yield from (word, value)
            else:
                yield f"{word}={value}"


def _is_recipe(word: str) -> bool:
    """Whether a word is a recipe, in a place where a dotted path is also allowed."""
    return "/" in word or word.endswith((".yaml", ".yml")) or word in recipes.names()
