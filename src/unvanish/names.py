"""Options that are chosen by name, and a useful answer to a name that does not exist."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for a misspelt name: ``; did you mean 'relu'?``, or nothing where no known name is close."""
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def lookup(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return ``table[name]``.

    Raises:
        ValueError: the name is unknown; the message gives the nearest one and the whole list.
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}{nearest(name, table)} (known: {', '.join(table)})")
    return table[name]
