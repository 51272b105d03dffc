"""Numbers within bounds: types that ``--help`` shows, and the one check of what is given in Python."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, get_args


class Bounded:
    """An annotation alone: the values are plain numbers."""

    kind: type[int] | type[float]
    words: str
    holds: Callable[[float], bool]

    @classmethod
    def read(cls, text: object) -> float:
        """The number that was typed."""
        try:
            number = cls.kind(str(text))
        except ValueError:
            raise ValueError(f"is {text!r}, expected {cls.kind.__name__}") from None
        if not cls.holds(number):
            raise ValueError(f"is {text}; it must be {cls.words}")
        return number


def _bounded(name: str, kind: type, words: str, holds: Callable[[float], bool]) -> type:
    return type(name, (Bounded, kind), {"kind": kind, "words": words, "holds": staticmethod(holds)})


if TYPE_CHECKING:
    PositiveInt: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    PositiveFloat: TypeAlias = float
    NonNegativeFloat: TypeAlias = float
    ClosedUnitInterval: TypeAlias = float
    HalfOpenUnitInterval: TypeAlias = float
else:
    PositiveInt = _bounded("PositiveInt", int, "at least 1", lambda n: n >= 1)
    NonNegativeInt = _bounded("NonNegativeInt", int, "at least 0", lambda n: n >= 0)
    PositiveFloat = _bounded("PositiveFloat", float, "finite and positive", lambda x: 0 < x < math.inf)
    NonNegativeFloat = _bounded("NonNegativeFloat", float, "finite and not negative", lambda x: 0 <= x < math.inf)
    ClosedUnitInterval = _bounded("ClosedUnitInterval", float, "between 0 and 1", lambda x: 0 <= x <= 1)
    HalfOpenUnitInterval = _bounded("HalfOpenUnitInterval", float, "at least 0 and below 1", lambda x: 0 <= x < 1)


def check_bounds(owner: Callable[..., object], values: Mapping[str, Any], where: str = "") -> None:
    """Hold numbers to the types that the arguments of a class or a function have.

    Raises:
        ValueError: one is out of its bounds; the message names it, behind ``where``.
    """
    for name, parameter in inspect.signature(owner).parameters.items():
        for kind in (parameter.annotation, *get_args(parameter.annotation)):
            is_bounded = isinstance(kind, type) and issubclass(kind, Bounded)
            if is_bounded and values.get(name) is not None and not kind.holds(values[name]):
                raise ValueError(f"{where}{name} is {values[name]}; it must be {kind.words}")
