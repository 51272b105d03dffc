"""Options that are chosen by name, and a useful answer to a name that does not exist."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for a misspelt name: ``; did you mean 'relu'?``, or nothing where no known name is close."""
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


#: What is no choice, and why, where more is to be said of it than that it is unknown.
_NO_CHOICE = {
    (
        "activation",
        "softmax",
    ): "softmax is for outputs only: in a hidden layer it makes units compete for a sum of "
    "one, so that activations and gradients shrink with the width; the loss applies it to the logits"
}


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """What is said of a name that is none of those known: the nearest of them, and the whole list."""
    default = f"unknown {kind} {name!r}{nearest(name, known)} (known: {', '.join(known)})"
    return _NO_CHOICE.get((kind, name), default)


def lookup(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return ``table[name]``.

    Raises:
        ValueError: the name is unknown; the message gives the nearest one and the whole list.
    """
    if name not in table:
        raise ValueError(unknown(kind, name, table))
    return table[name]
