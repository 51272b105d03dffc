"""What could not be measured, and why."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import final


@final
class Missing:
    """Collects reasons; each is said once, however many layers and steps it is about."""

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)

    def add(self, what: str, layers: Iterable[str], why: str) -> None:
        """Note that something was not measured of some layers, if there are any."""
        if names := dict.fromkeys(layers):
            self._layers[what, why] |= names

    def __iter__(self) -> Iterator[tuple[str, str, list[str]]]:
        return iter([(what, why, list(names)) for (what, why), names in self._layers.items()])

    def sentences(self) -> list[str]:
        """A sentence for each reason."""
        return [f"{what} of {listed(names)} was not measured: {why}" for what, why, names in self]


def listed(names: Iterable[str], rest: str = "more layers") -> str:
    """At most four names; of more, three and how many there are besides."""
    names = list(names)
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} {rest}"
