"""Options that are chosen by name, and a useful answer to a name that does not exist."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for a misspelt name: ``; did you mean 'relu'?``, or nothing where no known name is close."""
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


#: A longer list is not printed where one of its names is close.
_SHORT = 24
#: Names that are not allowed, and why.
_NOT_ALLOWED = {
    ("activation", "softmax"): "softmax is for outputs only: in a hidden layer it makes units compete for a sum of "
    "one, so that activations and gradients shrink with the width; the loss applies it to the logits"
}


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown name: the nearest known one, and the whole list unless that is long."""
    hint = nearest(name, known)
    whole = "" if hint and len(known) > _SHORT else f" (known: {', '.join(known)})"
    return _NOT_ALLOWED.get((kind, name), f"unknown {kind} {name!r}{hint}{whole}")


def lookup(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return ``table[name]``.

    Raises:
        ValueError: the name is unknown; the message is that of ``unknown``.
    """
    if name not in table:
        raise ValueError(unknown(kind, name, table))
    return table[name]
