"""What a search may choose: a key's values, or the ends between which they lie."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.command import yaml_text
from unvanish.command.errors import WrongInputError
from unvanish.command.recipes import flat, read

_FORM = "KEY=lo..hi, KEY=lo..hi,log or KEY=V,V, such as model.training.optimizer.learning_rate=1e-4..1e-1,log"


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``, both included, whole ones where both are; with ``log`` by their logarithms."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{',log' * self.log}"


Space = dict[str, Between | list[Any]]


def space_of(file: str | None, settings: Sequence[str]) -> Space:
    """The keys of a file and of ``--set``, which is over the file.

    Raises:
        WrongInputError: a key's values are neither a range nor a list, or there is no key.
    """
    found: dict[str, Any] = flat(read(Path(file))) if file else {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not key or not equals or not text:
            raise WrongInputError(f"--set is {setting!r}; it is {_FORM}")
        found[key.removeprefix("--")] = text
    if not found:
        raise WrongInputError(f"nothing to search: say a --space file, or --set {_FORM}")
    return {key: _values(key, value) for key, value in found.items()}


def _values(key: str, value: Any) -> Between | list[Any]:
    if isinstance(value, str) and (ends := re.fullmatch(r"\s*(\S+?)\s*\.\.\s*([^\s,]+)\s*(,\s*log)?\s*", value)):
        low, high = (yaml_text.parse(end) for end in ends.groups()[:2])
        if isinstance(low, int | float) and isinstance(high, int | float) and low < high and (low > 0 or not ends[3]):
            return Between(low, high, bool(ends[3]))
        rule = "two numbers, the lower first" + (", above 0" if ends[3] else "")
        raise WrongInputError(f"{key}: {value!r} is no range; it has {rule}")
    listed = yaml_text.parse(f"[{value}]") if isinstance(value, str) else value
    is_list = isinstance(listed, list) and len(listed) > 1
    if not is_list or not all(isinstance(one, str | int | float | bool) for one in listed):
        raise WrongInputError(f"{key} has {value!r}; it is {_FORM}")
    return [*listed]


def suggested(trial: Any, space: Mapping[str, Between | list[Any]]) -> dict[str, Any]:
    """The values of an Optuna trial."""
    values: dict[str, Any] = {}
    for key, choice in space.items():
        if isinstance(choice, list):
            values[key] = trial.suggest_categorical(key, choice)
        elif isinstance(choice.low, int) and isinstance(choice.high, int):
            values[key] = trial.suggest_int(key, choice.low, choice.high, log=choice.log)
        else:
            values[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
    return values
