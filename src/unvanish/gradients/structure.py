"""What a model is made of, and whether modules or parameters were added or replaced."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, final

import torch
from torch import nn


@final
class Structure:
    """The modules and parameters of a model at the time of the call.

    Args:
        model: Any module.
        layers: The modules for which ``has_its_layers`` looks.
    """

    def __init__(self, model: nn.Module, layers: Collection[nn.Module]) -> None:
        layers = set(layers)
        self._tables: list[Mapping[str, object]] = []
        places = []
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # cannot change, and wraps its parts anew at each access
                self._tables += module._parameters, module._modules
                places += [(module._modules, key, child) for key, child in module._modules.items() if child in layers]
        self._siblings, self._keys, self._layers = ([place[part] for place in places] for part in range(3))
        self._known = self._everything()

    def has_its_layers(self) -> bool:
        """Whether no layer was replaced; fast enough for every step."""
        return [*map(dict.get, self._siblings, self._keys)] == self._layers  # type: ignore[arg-type]

    def is_whole(self) -> bool:
        """Whether no module and no parameter was added or replaced."""
        return self._known == self._everything()

    def _everything(self) -> list[tuple[int, type]]:
        # A lazy parameter changes its type once it has a shape. torch's own walks make names, at ten times the cost.
        return [(id(part), type(part)) for table in self._tables for part in table.values()]


class Traits(NamedTuple):
    """Modules that findings depend on.

    Args:
        gated: The recurrent layers with gates.
        normalizations: The classes of the normalization layers, such as LayerNorm.
        dropout: The largest dropout probability of any module.
    """

    gated: tuple[str, ...]
    normalizations: tuple[str, ...]
    dropout: float


def traits_of(model: nn.Module, layers: Mapping[str, nn.Module]) -> Traits:
    """The traits of a model with these layers."""
    modules = [*model.modules()]
    gates = nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell
    return Traits(
        tuple(name for name, module in layers.items() if isinstance(module, gates)),
        tuple(sorted({kind for module in modules if "Norm" in (kind := type(module).__name__)})),
        max((module.p for module in modules if isinstance(module, nn.modules.dropout._DropoutNd)), default=0.0),
    )
