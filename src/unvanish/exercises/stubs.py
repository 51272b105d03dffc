"""Files in which a reader writes formulas, and what of them is right so far."""

import ast
import importlib.util
import inspect
import json
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from unvanish.exercises.chapters import EXERCISES, Exercise, find
from unvanish.exercises.hints import formula, solution

#: Where the files are, in the current folder.
FOLDER = Path("exercises")
_PROGRESS = "progress.json"


def path_of(exercise: Exercise, folder: Path = FOLDER) -> Path:
    """The file of an exercise."""
    return folder / f"exercise_{exercise.name}.py"


def stub(exercise: Exercise) -> str:
    """A module with the formula's imports, its head and its docstring, and nothing else."""
    function = formula(exercise)
    (tree,) = ast.parse(textwrap.dedent(solution(exercise))).body
    assert isinstance(tree, ast.FunctionDef)
    head = ast.get_source_segment(textwrap.dedent(solution(exercise)), tree) or ""
    docstring = tree.body[0]
    head = "\n".join(head.splitlines()[: docstring.end_lineno])
    imports = "\n".join(_imports(function, tree))
    opening = f'"""Exercise {exercise.name}: unvanish exercise --check {exercise.name}."""'
    return f"{opening}\n\n{imports}\n\n\n{head}\n    raise NotImplementedError\n"


def _imports(function: Callable[..., Any], tree: ast.FunctionDef) -> list[str]:
    """What the head of the formula needs, and torch."""
    module = import_module(function.__module__)
    source = ast.parse(inspect.getsource(module))
    named = {node.id for node in ast.walk(tree.args) if isinstance(node, ast.Name)}
    named |= {node.id for node in ast.walk(tree.returns or ast.Pass()) if isinstance(node, ast.Name)}
    found = ["import math", "", "import torch"]
    for node in source.body:
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("unvanish"):
            names = sorted(alias.name for alias in node.names if alias.name in named)
            found += [f"from {node.module} import {', '.join(names)}"] if names else []
    imported = {name for line in found for name in line.rpartition("import ")[2].split(", ")}
    own = sorted(name for name in named - imported if hasattr(module, name))
    found += ["", f"from {module.__name__} import {', '.join(own)}"] if own else []
    return found


def write_stub(exercise: Exercise, folder: Path = FOLDER) -> Path:
    """Write the file of an exercise, where there is none.

    Raises:
        ValueError: it is there already.
    """
    path = path_of(exercise, folder)
    if path.exists():
        raise ValueError(f"{path} is there already; check it with `unvanish exercise --check {exercise.name}`")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(stub(exercise), encoding="utf-8")
    return path


def written(folder: Path = FOLDER) -> list[Exercise]:
    """The exercises that have a file."""
    return [exercise for exercise in EXERCISES.values() if path_of(exercise, folder).exists()]


def load(exercise: Exercise, folder: Path = FOLDER) -> Callable[..., Any]:
    """The reader's function.

    Raises:
        ValueError: there is no file, or it lacks the function.
    """
    path = path_of(exercise, folder)
    if not path.exists():
        raise ValueError(f"there is no {path}; `unvanish exercise {exercise.name}` writes it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    is_writing, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a file may change within a second
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = is_writing
    if not callable(function := getattr(module, exercise.function, None)):
        raise ValueError(f"{path} has no function {exercise.function}")
    return function  # type: ignore[no-any-return]


def solved(folder: Path = FOLDER) -> set[str]:
    """The names of the exercises that were right when they were last checked.

    Raises:
        ValueError: the file of progress is not readable.
    """
    path = folder / _PROGRESS
    if not path.exists():
        return set()
    try:
        return {find(name).name for name in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it, and check your exercises again") from None


def keep(results: dict[str, bool], folder: Path = FOLDER) -> None:
    """Note which exercises are right now, and which no longer."""
    names = {name for name in solved(folder) | results.keys() if results.get(name, True)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PROGRESS).write_text(json.dumps([n for n in EXERCISES if n in names]) + "\n", encoding="utf-8")
