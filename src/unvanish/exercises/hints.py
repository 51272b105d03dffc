"""Hints from the formula itself, each level more than the one before; the solution is the formula."""

import ast
import inspect
import textwrap
from importlib import import_module
from types import FunctionType

from unvanish.exercises.chapters import Exercise

LEVELS = 3
_OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.USub: "-", ast.Invert: "~",
    ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==",
}  # fmt: skip


def formula(exercise: Exercise) -> FunctionType:
    """The package's own function."""
    found: FunctionType = getattr(import_module(f"unvanish.formulas.{exercise.module}"), exercise.function)
    return found


def solution(exercise: Exercise) -> str:
    """The formula's source."""
    return inspect.getsource(formula(exercise))


def hint(exercise: Exercise, level: int) -> str:
    """A hint: 1 the shapes and the length of the answer, 2 what it uses, 3 all of it but its last statement.

    Raises:
        ValueError: there is no such level.
    """
    if not 1 <= level <= LEVELS:
        raise ValueError(f"there are hints of level 1 to {LEVELS}, not {level}")
    return (_size, _parts, _beginning)[level - 1](exercise)


def _size(exercise: Exercise) -> str:
    module = inspect.getdoc(import_module(f"unvanish.formulas.{exercise.module}")) or ""
    shapes = next((part for part in module.split("\n\n") if part.startswith("Shapes:")), "")
    count = len(_statements(exercise))
    size = f"The formula is {count} {'statement' if count == 1 else 'statements'} long."
    return f"{size}\n{shapes}".strip()


def _parts(exercise: Exercise) -> str:
    """The functions and operators of the formula, in its order."""
    parts: dict[str, None] = {}
    for statement in _statements(exercise):
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                parts[node.func.id if isinstance(node.func, ast.Name) else node.func.attr] = None
            if isinstance(node, ast.BinOp | ast.UnaryOp | ast.AugAssign) and type(node.op) in _OPERATORS:
                parts[_OPERATORS[type(node.op)]] = None
            if isinstance(node, ast.Compare):
                parts |= {_OPERATORS[type(op)]: None for op in node.ops if type(op) in _OPERATORS}
    return f"It uses {', '.join(parts)}." if parts else "It calls nothing."


def _beginning(exercise: Exercise) -> str:
    *first, last = _statements(exercise)
    words = [ast.unparse(statement) for statement in first]
    if not first and isinstance(last, ast.Return) and last.value is not None:
        words = [f"return ...  # {type(last.value).__name__} of {len(ast.unparse(last.value))} characters"]
    else:
        words.append("...")
    return textwrap.indent("\n".join(words), "    ")


def _statements(exercise: Exercise) -> list[ast.stmt]:
    """What the function does, without its docstring and its checks of shapes."""
    (tree,) = ast.parse(textwrap.dedent(solution(exercise))).body
    assert isinstance(tree, ast.FunctionDef)
    return [statement for statement in tree.body[1:] if not _is_check(statement)]


def _is_check(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        name = statement.value.func
        return isinstance(name, ast.Name) and name.id.lstrip("_").startswith(("check", "expect"))
    return isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Raise)
