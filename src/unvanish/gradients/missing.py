"""What could not be measured, and why."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple, final

from torch import nn

COMPILED_EARLIER = "it was compiled and called before the recorder was entered, and hooks added later do not run"
TRANSFORMED = "it was run by a transform of torch.func"
_NOT_CALLED = (
    "the first tensor that it returns has no part in the loss or is a view that is changed in place, its weight is "
    "used without calling it, or it was compiled before the recorder was entered"
)
_OWN = "it is a parameter of a module that holds layers as well, whose output is made by those too"


@final
class Missing:
    """Collects reasons. Each is reported once, with all the layers it applies to."""

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)

    def add(self, what: str, layers: Iterable[str], why: str) -> None:
        """Note that a quantity was not measured for these layers, if there are any."""
        if names := dict.fromkeys(layers):
            self._layers[what, why] |= names

    def __iter__(self) -> Iterator[tuple[str, str, list[str]]]:
        return iter([(what, why, list(names)) for (what, why), names in self._layers.items()])

    def sentences(self) -> list[str]:
        """A sentence for each reason."""
        return [f"{what} of {listed(names)} was not measured: {why}" for what, why, names in self]


class Untrained(NamedTuple):
    """Weights that seem to be trained and are not.

    Args:
        kind: gradient: they get none. outside: they are no parameters of the model. optimizer: no optimizer has them.
            frozen: they want no gradient, and are most of the model.
        names: The parameters' names; for weights outside of the model, their shapes.
    """

    kind: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        noun, what = {
            "gradient": ("parameter", "without a gradient"),
            "outside": ("weight", "in the loss that the model does not know"),
            "optimizer": ("parameter", "in no optimizer"),
            "frozen": ("weight", "frozen"),
        }[self.kind]
        return f"{len(self.names)} {noun}{'s' * (len(self.names) > 1)} {what}: {listed(self.names, 'more')}"


def listed(names: Iterable[str], rest: str = "more layers") -> str:
    """At most four names; if there are more, three and the number of the others."""
    names = list(names)
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} {rest}"


def unseen(names: Iterable[str], modules: Mapping[str, nn.Module], transformed: Container[str], why: str) -> Missing:
    """Why layers with a gradient have no delta.

    Args:
        names: The layers.
        modules: The layers that are modules.
        transformed: The layers that a transform of ``torch.func`` has run.
        why: A reason that applies to all of them, if there is one.
    """
    missing = Missing()
    for name in names:
        own = TRANSFORMED if name in transformed else why or _NOT_CALLED
        missing.add("delta", [name], own if name in modules else _OWN)
    return missing
