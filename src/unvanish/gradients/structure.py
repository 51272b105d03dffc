"""Whether a model is still made of the parts that it was made of."""

from collections.abc import Collection, Mapping
from typing import final

import torch
from torch import nn


@final
class Structure:
    """The parts of a model, as they are now.

    Args:
        model: Any module.
        layers: Those of its modules that are seen to be replaced at once.
    """

    def __init__(self, model: nn.Module, layers: Collection[nn.Module]) -> None:
        layers = set(layers)
        self._tables: list[Mapping[str, object]] = []
        places = []
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which cannot change, and makes its parts anew
                self._tables += module._parameters, module._modules
                places += [(module._modules, key, child) for key, child in module._modules.items() if child in layers]
        self._siblings, self._keys, self._layers = ([place[part] for place in places] for part in range(3))
        self._known = self._everything()

    def has_its_layers(self) -> bool:
        """Whether no layer was replaced: quick enough for every step."""
        return [*map(dict.get, self._siblings, self._keys)] == self._layers  # type: ignore[arg-type]

    def is_whole(self) -> bool:
        """Whether nothing was added or replaced, neither modules nor parameters."""
        return self._known == self._everything()

    def _everything(self) -> list[tuple[int, type]]:
        # A lazy parameter has another type once it has a shape. torch's own walks make names: ten times as long.
        return [(id(part), type(part)) for table in self._tables for part in table.values()]
