"""``unvanish exercise``: the primer's formulas, for the reader to write and to have checked."""

import argparse
import inspect
import shutil

from unvanish.command.errors import FailedError, WrongInputError, as_wrong_input
from unvanish.exercises import EXERCISES, check, find
from unvanish.exercises.hints import LEVELS, formula, hint, solution
from unvanish.exercises.stubs import keep, load, path_of, solved, write_stub, written


def exercise(options: argparse.Namespace, rest: list[str]) -> int:
    """List the exercises, write the file of one, check the written ones, or print a hint or the solution.

    Returns:
        0; with ``--check`` 1 if an exercise is not right.
    """
    with as_wrong_input():
        if options.check:
            return _check(options.name)
        if options.name is None:
            if options.hint is not None or options.solution:
                raise WrongInputError("--hint and --solution are of one exercise: unvanish exercise 4b --hint")
            print(_list())
            return 0
        chosen = find(options.name)
        if options.solution:
            print(solution(chosen), end="")
        elif options.hint is not None:
            print(hint(chosen, options.hint))
        else:
            path = write_stub(chosen)
            print(f"wrote {path}: write {chosen.function}, then `unvanish exercise --check {chosen.name}`")
            print(f"hints: unvanish exercise {chosen.name} --hint 1 to {LEVELS}")
    return 0


def _check(name: str | None) -> int:
    chosen = written() if name is None else [find(name)]
    if not chosen:
        raise WrongInputError("there is no exercise here to check; `unvanish exercise 1a` writes the first one's file")
    results = {}
    for one in chosen:
        try:
            result = check(one.name, load(one))
        except ModuleNotFoundError as error:
            if error.name != "hypothesis":
                raise
            raise FailedError(str(error)) from None
        except SyntaxError as error:
            raise WrongInputError(f"{path_of(one)}, line {error.lineno}: {error.msg}") from None
        results[one.name] = bool(result)
        print(result, flush=True)
    keep(results)
    print(f"{len(solved())} of {len(EXERCISES)} exercises are right")
    return 0 if all(results.values()) else 1


def _list() -> str:
    right, files = solved(), {one.name for one in written()}
    width = shutil.get_terminal_size().columns
    lines: list[str] = []
    chapter = 0
    for one in EXERCISES.values():
        if one.chapter != chapter:
            chapter = one.chapter
            lines += ["", f"{chapter}  {one.title}"] if lines else [f"{chapter}  {one.title}"]
        mark = "*" if one.name in right else "." if one.name in files else " "
        about = (inspect.getdoc(formula(one)) or "").split("\n")[0]
        line = f"{mark} {one.name:4} {one.function:42} {about}"
        lines.append(line if len(line) <= width else f"{line[: width - 3].rstrip()}...")
    legend = f"* right, . begun: {len(right)} of {len(EXERCISES)} are right. `unvanish exercise 1a` begins one."
    return "\n".join([*lines, "", legend])
