"""Reports unexpected errors, depending on where they were raised: in the user's code, in a library, or in ours.

Errors that we check for ourselves are a ``WrongInputError`` or a ``FailedError`` and are not handled here.
"""

import re
import sys
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

from rich.syntax import Syntax

from unvanish.command.errors import FailedError, WrongInputError, one_line
from unvanish.command.terminal import console, say

_OURS = Path(__file__).parents[1]
_PYTHON = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
#: Where packages are installed, by whomever: for all, for one user, by Debian, by a module system.
_INSTALLED = {"site-packages", "dist-packages"}
#: What torch and its allocators say where there is no exception of its own for it.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|Unable to allocate|Storage size calc")


def tell(error: Exception, *, whole: bool) -> int:
    """Print an error and return the exit code.

    Args:
        error: The error.
        whole: Whether to print the full traceback.
    """
    where = console(sys.stderr)
    told = None if whole else foreseen(error)
    if told is not None:
        say(f"unvanish: {told}", where)
    elif whole or is_of_user(error):
        text = shown(error, whole=whole)
        if where.is_terminal:
            where.print(Syntax(text, "pytb", background_color="default", word_wrap=True))
        else:
            sys.stderr.write(text)
    else:
        say(f"unvanish: {unforeseen(error)}", where)
    return 2 if isinstance(told, WrongInputError) else 1


def foreseen(error: Exception) -> WrongInputError | FailedError | None:
    """One line for a library's error that comes from bad input, too little memory or a missing package; else None.

    Errors raised in the user's own code also give None: they keep their traceback.
    """
    where = _origin(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) or "OutOfMemory" in type(error).__name__:
        return FailedError(f"there is too little memory: {_short(error)}; smaller sizes or batches need less")
    if where is None or where == "user":
        return None
    if isinstance(error, OverflowError) or "Overflow when unpacking" in str(error):
        return WrongInputError(f"a number is too large: {_short(error)}")
    if isinstance(error, ModuleNotFoundError):
        named = re.search(r"pip install (?:-\S+ )*([\w\[\]-]+)", str(error))
        package = named[1] if named else (error.name or "").partition(".")[0]
        return WrongInputError(f"{package or _short(error)} is not installed: pip install {package}")
    frames = traceback.extract_tb(error.__traceback__)
    if _room(frames[-1].filename) == "lightning":  # and no torch below it, which has reasons of its own
        return WrongInputError(f"the trainer does not take this: {_short(error)}")
    return None


def shown(error: BaseException, *, whole: bool) -> str:
    """The traceback of an error as Python prints it.

    Args:
        error: The error.
        whole: Whether to show all frames; if not, frames outside of the user's code are only counted.
    """
    told = traceback.TracebackException.from_exception(error)
    if whole:
        return "".join(told.format())
    lines, folded = ["Traceback (most recent call last):\n"], 0
    for frame in told.stack:
        if _room(frame.filename) == "user":
            lines += [f"  ... {folded} frames of unvanish and of libraries\n"] * bool(folded)
            lines += traceback.StackSummary.from_list([frame]).format()
            folded = 0
        else:
            folded += 1
    lines += [f"  ... {folded} frames of unvanish and of libraries\n"] * bool(folded)
    return "".join([*lines, *told.format_exception_only()])


def is_of_user(error: BaseException) -> bool:
    """Whether the traceback of an error contains the user's code."""
    return any(_room(frame.filename) == "user" for frame in traceback.extract_tb(error.__traceback__))


def unforeseen(error: BaseException) -> str:
    """One line for an error that is neither expected nor in the user's code."""
    tb: TracebackType | None = error.__traceback__
    frames = traceback.extract_tb(tb)
    place = next((f for f in reversed(frames) if _room(f.filename) == "ours"), None)
    at = f" at {Path(place.filename).name}:{place.lineno}" if place else ""
    return f"an error that unvanish did not foresee{at}: {_short(error)}; --traceback shows where it arose"


def _origin(error: BaseException) -> str | None:
    """Whose code raised an error: user, lightning or ours, whichever was called last; None if only libraries were."""
    rooms = [_room(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return next((room for room in reversed(rooms) if room != "library"), None)


def _room(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(_OURS):
        return "ours"
    if not _INSTALLED.isdisjoint(path.parts):
        return "lightning" if "lightning" in path.parts else "library"
    is_python = filename.startswith("<") or any(path.is_relative_to(folder) for folder in _PYTHON)
    return "library" if is_python else "user"


def _short(error: BaseException) -> str:
    text = one_line(error).partition(" Exception raised from ")[0]  # torch's own stack
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
