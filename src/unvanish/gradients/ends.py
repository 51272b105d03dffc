"""The two ends of a network: its input data, and what its loss compares."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import final

from torch import Tensor, nn

from unvanish.gradients.graph import Node
from unvanish.gradients.heads import Head, read_heads
from unvanish.gradients.layers import unit_axis
from unvanish.gradients.sample import Sample, columns_of

#: Largest number of comparisons that are read in a loss.
_HEADS = 8


@dataclass(frozen=True)
class Given:
    """Input data of a layer.

    Args:
        layer: Its name.
        data: Statistics of the data.
    """

    layer: str
    data: Sample


@final
class Ends:
    """Statistics of both ends, still on the device: first of what the loss compares, then of the input data."""

    def __init__(self) -> None:
        self._of: list[tuple[Head | str, list[int]]] = []
        self.numbers: list[Tensor] = []
        self._data: dict[str, tuple[Tensor, nn.Module]] = {}

    @property
    def has_heads(self) -> bool:
        """Whether a loss was read."""
        return bool(self._of)

    def feed(self, layer: str, data: Tensor | None, module: nn.Module) -> None:
        """Note the input of a layer's first call in a step, if it is data."""
        if data is not None and data.grad_fn is None and data.is_floating_point() and layer not in self._data:
            self._data[layer] = data.detach(), module

    def compare(self, loss: Tensor, layer_of: Callable[[Node], str | None], last: tuple[Tensor, int] | None) -> None:
        """Read what a loss compares."""
        if loss.grad_fn is None or len(self._of) >= _HEADS:
            return
        for head, numbers, columns in read_heads(loss.grad_fn, layer_of, last):
            self._of.append((head, columns))
            self.numbers += numbers

    def complete(self, *, with_data: bool) -> "Ends":
        """Add the statistics of the data, and return self."""
        for layer, (data, module) in self._data.items() if with_data else ():
            if data.numel() and not data.is_nested:
                numbers, columns = columns_of(data, unit_axis(module))
                self._of.append((layer, [columns]))
                self.numbers.append(numbers)
        self._data.clear()
        return self

    def read(self, rest: Iterator[float]) -> tuple[tuple[Head, ...], tuple[Given, ...]]:
        """Read both ends from values on the host."""
        heads: list[Head] = []
        given: list[Given] = []

        def sample(columns: int) -> Sample | None:
            if not columns:
                return None
            count, smallest, largest, binary = islice(rest, 4)
            sums, squares = tuple(islice(rest, columns)), tuple(islice(rest, columns))
            return Sample(count, smallest, largest, binary, sums, squares) if count else None

        for what, columns in self._of:
            if isinstance(what, str):
                given += [Given(what, data) for data in [sample(columns[0])] if data is not None]
            elif not columns:
                heads.append(what)
            else:
                heads.append(replace(what, value=next(rest), target=sample(columns[0])))
        return tuple(heads), tuple(given)
