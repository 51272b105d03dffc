"""Holds a reader's function to the proof that holds the package's own."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from unvanish.exercises.chapters import Exercise, find

#: Frames of these are not the reader's, wherever he works: his folder may be called as the package is.
_PACKAGE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Result:
    """What the proof of an exercise says of a function.

    Args:
        exercise: Which one.
        difference: What differs, one line; empty where nothing does.
    """

    exercise: Exercise
    difference: str = ""

    def __bool__(self) -> bool:
        return not self.difference

    def __repr__(self) -> str:
        name = f"{self.exercise.name} {self.exercise.function}"
        return f"{name}: {self.difference}" if self.difference else f"{name}: right"


def check(name: str, function: Callable[..., Any]) -> Result:
    """Hold ``function`` to the proof of an exercise: many drawn cases, beside torch or autograd.

    Args:
        name: The exercise: ``4b``, or its formula's name, ``backward``.
        function: Called as the formula is, with copies of the tensors; it may work in place.

    Returns:
        True where nothing differs; its repr says what does, in one line.

    Raises:
        ValueError: there is no such exercise.
        ModuleNotFoundError: hypothesis, which draws the cases, is not installed: the extra ``exercises`` brings it.
    """
    exercise = find(name)
    try:
        proof = getattr(import_module(f"unvanish.exercises.proofs.{exercise.module}"), exercise.function)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        words = "hypothesis is not installed, which draws the cases of a proof: pip install 'unvanish[exercises]'"
        raise ModuleNotFoundError(words, name="hypothesis") from None
    from unvanish.exercises.proofs.compare import DifferentError, on_copies  # noqa: PLC0415 - it imports hypothesis

    try:
        proof(on_copies(function))
    except DifferentError as error:
        return Result(exercise, str(error))
    except NotImplementedError:
        return Result(exercise, "not written yet")
    except Exception as error:  # of whatever kind: the function is the reader's
        return Result(exercise, _raised(error))
    return Result(exercise)


def _raised(error: Exception) -> str:
    """One line on an error in the reader's function, with the place where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_PACKAGE)]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    place = f", line {own[-1].lineno} of {own[-1].filename.rpartition('/')[2]}" if own else ""
    first, *_ = str(error).splitlines() or [""]
    return f"raises {type(error).__name__}: {first}{place}"
