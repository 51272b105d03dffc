"""The keys of a recipe: the arguments of its classes, read from their source files without importing torch."""

import ast
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import unvanish
from unvanish.command.errors import WrongInputError
from unvanish.command.hints import unknown_key
from unvanish.command.recipes import Recipe, flat

_PACKAGE = Path(unvanish.__file__).parent
#: What the data tells the network, and what is no key.
_HIDDEN = {"self", "input_shape", "output_size", "vocabulary_size", "padding_index", "class_path"}
_LINKED = {"model.training.task", "data.loading.seed"}


def keys(model: str, data: str) -> list[str]:
    """All keys of a recipe, in the order of its parser.

    Args:
        model: The network's ``class_path``. The keys of a class that is not in this package are left out.
        data: The ``class_path`` of the data module, likewise.
    """
    return list(_annotations(model, data))


def names_of(model: str, data: str) -> dict[str, list[str]]:
    """All keys, each with the names that it allows; empty for keys with other values."""
    return {key: _names_in(annotation) for key, annotation in _annotations(model, data).items()}


@cache
def _annotations(model: str, data: str) -> dict[str, ast.expr | None]:
    found: dict[str, ast.expr | None] = {"seed": None}
    for path, group in ((model, "model"), (data, "data"), ("lightning.Trainer", "trainer")):
        found |= _arguments(path, f"{group}.")
    return found | _arguments("unvanish.GradientMonitor", "gradients.")


def check_keys(recipe: Recipe, overrides: Sequence[str]) -> None:
    """Refuse an unknown key with the message of the recipe's parser, which may refuse more than this check.

    Recipes with classes of other packages are not checked, nor are keys above or below a known key.

    Raises:
        WrongInputError: a key of the recipe or of the overrides is unknown.
    """
    given = flat(recipe.config)
    paths = [given.get(f"{group}.class_path") for group in ("model", "data")]
    if not all(isinstance(path, str) and _class_of(path) for path in paths):
        return
    known = keys(*map(str, paths))
    typed = (re.match(r"--([^\s=]+)", word) for word in overrides)
    for key in (*given, *(match[1] for match in typed if match)):
        bare = key.rstrip("+")
        is_known = any(_is_within(bare, one) or _is_within(one, bare) for one in (*known, *_LINKED))
        if not is_known and bare.rpartition(".")[2] not in _HIDDEN:
            raise WrongInputError(unknown_key(key, known, overrides, recipe))


def _is_within(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def _names_in(annotation: ast.expr | None) -> list[str]:
    """The names that an annotation allows: those of a Literal or of an alias for one, or true and false."""
    found: list[str] = []
    for node in ast.walk(annotation) if annotation else ():
        text = ast.unparse(node) if isinstance(node, ast.Name | ast.Subscript) else ""
        if text == "bool":
            found += ["true", "false"]
        elif (literal := _literals().get(text, text)).startswith("Literal["):
            found += ast.literal_eval(f"({literal.removeprefix('Literal[').removesuffix(']')},)")
    return found


@cache
def _literals() -> dict[str, str]:
    """The source of each alias for a Literal in this package, by name."""
    texts = [*_sources("unvanish"), (_PACKAGE / "activations.py").read_text(encoding="utf-8")]
    return {
        name: found for text in texts for name, found in re.findall(r"^(\w+) = (Literal\[.+\])$", text, re.MULTILINE)
    }


def _arguments(path: str, prefix: str) -> dict[str, ast.expr | None]:
    """The arguments of a class, each with ``prefix`` and its annotation."""
    node = _class_of(path)
    if node is None:
        return {}
    init = _init_of(node)
    if init is not None:
        pairs = [(a.arg, a.annotation) for a in (*init.args.args, *init.args.kwonlyargs)]
    else:
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        pairs = [(n.target.id, n.annotation) for n in fields if isinstance(n.target, ast.Name)]
    found: dict[str, ast.expr | None] = {}
    for name, annotation in pairs:
        if name in _HIDDEN or f"{prefix}{name}" in _LINKED:
            continue
        if isinstance(annotation, ast.Name) and annotation.id in unvanish.__all__:
            found |= _arguments(f"unvanish.{annotation.id}", f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = annotation
    return found


@cache
def _class_of(path: str) -> ast.ClassDef | None:
    """A class of this package, or Lightning's Trainer, by its path; None if its arguments are not all in its source."""
    name = path.rpartition(".")[2]
    texts = [text for text in _sources(path.partition(".")[0]) if f"class {name}" in text]
    found = [node for text in texts for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    named = [node for node in found if node.name == name]
    return named[0] if len(named) == 1 and _is_plain(named[0]) else None


@cache
def _sources(package: str) -> list[str]:
    """The source of all files with classes that a recipe may name."""
    if package == "unvanish":
        rooms = ("networks", "training", "data", "gradients/adapters")
        files = [file for room in rooms for file in sorted((_PACKAGE / room).rglob("*.py"))]
    elif package == "lightning" and (spec := find_spec(package)) and spec.origin:
        files = [Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"]
    else:
        files = []
    return [file.read_text(encoding="utf-8") for file in files]


def _is_plain(node: ast.ClassDef) -> bool:
    """Whether a class declares all its arguments: it has an ``__init__`` without ``**kwargs``, or is a dataclass."""
    init = _init_of(node)
    return init.args.kwarg is None if init else any("dataclass" in ast.unparse(one) for one in node.decorator_list)


def _init_of(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
