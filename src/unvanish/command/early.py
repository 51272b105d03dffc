"""Finds the most common mistakes before torch is imported, which takes seconds."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from unvanish.command import recipes
from unvanish.command.allowed import check_recipe
from unvanish.command.keys import check_keys


def check_early(options: Namespace, rest: Sequence[str]) -> None:
    """Refuse recipes that do not exist, names that they may not use, and unknown keys.

    Raises:
        WrongInputError: there is one. The verb itself would raise the same message; it may refuse more.
    """
    overrides = list(rest)
    if options.verb == "search":
        from unvanish.command.search.space import space_of

        overrides += [f"--{key}" for key in space_of(options.space, options.set)]
    for recipe in _recipes(options):
        check_recipe(recipe)
        check_keys(recipe, overrides)


def _recipes(options: Namespace) -> list[recipes.Recipe]:
    """The recipes that a verb uses; empty if it uses none, or if the verb itself reports what is missing."""
    if options.verb == "compare":
        names = [name for name in options.recipes if not Path(name).is_dir()]
        return list(recipes.side_by_side(names, options.set).values())
    if options.verb == "export":
        path = Path(options.run) / recipes.CONFIG
        return [recipes.load([str(path)])] if path.is_file() else []
    if options.verb == "check":
        is_about_recipe = options.config and not options.network
    elif options.verb == "diagnose":
        is_about_recipe = not (options.model or options.list_findings or options.input_shape)
    else:
        is_about_recipe = True
    return [recipes.load(options.config, options.variant)] if is_about_recipe else []
