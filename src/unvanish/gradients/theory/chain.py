"""Recognises networks that mean-field theory covers while they run, and predicts their gradients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, final

import torch
from torch import Tensor, nn

from unvanish.activations import ACTIVATIONS
from unvanish.gradients.layers import FUNCTIONS, VIEWS, find_layers, node_name
from unvanish.gradients.theory.mean_field import batchnorm_explosion, expected_factors


@dataclass(frozen=True)
class Chain:
    """A chain of linear layers with one activation, and perhaps a batch normalization, between each and the next.

    Args:
        layers: Names of the L linear layers, in the order of the forward pass.
        activations: The names of the L-1 activations between them.
        sigma_w2: fan_in times the mean square of the weights, for each layer.
        sigma_b2: The mean square of the biases, for each layer.
        q0: The mean of x^2 over the batch and its features.
        batch_size: Samples in the batch if there is a batch normalization before each activation, a ReLU; else None.
    """

    layers: list[str]
    activations: list[str]
    sigma_w2: list[float]
    sigma_b2: list[float]
    q0: float
    batch_size: int | None

    def expected(self, deltas: Mapping[str, float]) -> dict[str, float]:
        """Predict |delta| by layer, starting from the measured value of the last layer that the theory covers.

        With batch normalization only the layers between the first and the last are covered, since Yang's factor holds
        from one normalized layer to another.
        """
        layers = self.layers if self.batch_size is None else self.layers[1:-1]
        if layers[-1] not in deltas:
            return {}
        found = {layers[-1]: deltas[layers[-1]]}
        for name, factor in zip(layers[-2::-1], self._factors[::-1], strict=True):
            found[name] = next(reversed(found.values())) * factor
        return dict(reversed(found.items()))

    @property
    def factor_per_layer(self) -> float:
        """The geometric mean of the predicted factors of |delta| per layer."""
        return float(math.prod(self._factors) ** (1 / len(self._factors)))

    @cached_property
    def _factors(self) -> list[float]:
        if self.batch_size is None:
            return expected_factors(self.activations, self.sigma_w2, self.sigma_b2, self.q0)
        return [math.sqrt(batchnorm_explosion(self.batch_size))] * (len(self.layers) - 3)


@final
class ChainProbe:
    """Watches the first training pass of a model, reads its structure in autograd's graph, and removes its hooks.

    Its errors never end the training, and copies of the model are not watched.

    Args:
        model: Any module, with the weights that the predictions are made for.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = find_layers(model).modules
        self._calls: list[tuple[str, list[str] | None]] = []
        self._nodes: dict[Any, str] = {}
        self._is_chain = all(isinstance(module, nn.Linear) for module in modules.values()) and len(modules) > 1
        self._scales: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._input_square: Tensor | None = None
        self._batch_size = 0
        self._handles = []
        if self._is_chain:
            for name, module in modules.items():
                self._scales[name] = _mean_squares(module)
                self._handles.append(module.register_forward_hook(partial(self._see, name), with_kwargs=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return ChainProbe, (nn.Module(),)

    def close(self) -> None:
        """Remove the hooks from the model, if that was not done yet."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._nodes.clear()

    def _see(
        self, name: str, module: nn.Linear, inputs: tuple[Tensor, ...], keywords: Mapping[str, Tensor], z: Tensor
    ) -> None:
        if torch.compiler.is_compiling() or not self._is_chain:
            return
        try:
            self._take(name, inputs[0] if inputs else keywords["input"], z)
        except Exception:  # of whatever kind: the training is not ours
            self._is_chain = False
            self.close()

    def _take(self, name: str, x: Tensor, z: Tensor) -> None:
        if not z.requires_grad or z.grad_fn is None:
            return
        if self._calls and name == self._calls[0][0]:  # the next micro-batch
            self.close()
            return
        previous = self._calls[-1][0] if self._calls else None
        if previous is None:
            self._input_square = x.detach().double().square().mean() if x.device.type != "mps" else None
            self._batch_size = len(x)
        path = self._path(x, previous)
        if previous is not None and (path is None or len(path) > _LONGEST):
            self._is_chain = False
            self.close()  # else each further layer would ask how far back it begins
            return
        self._calls.append((name, path))
        node: Any = z.grad_fn
        while node_name(node) in VIEWS:
            node = node.next_functions[0][0]
        self._nodes[node] = name

    def _path(self, x: Tensor, previous: str | None) -> list[str] | None:
        """The nodes between the previous layer and ``x``, nearest to x first; None if that layer is not found."""
        node, path = x.grad_fn, []
        while node is not None and node not in self._nodes:
            if node_name(node) not in VIEWS:
                path.append(node_name(node))
            node = node.next_functions[0][0] if node.next_functions else None
        found = None if node is None else self._nodes[node]
        return path if found == previous else None

    def chain(self) -> Chain | None:
        """The chain; None if the model is not one that the theory covers, or has not run."""
        self.close()
        names = [name for name, _ in self._calls]
        if not self._is_chain or sorted(names) != sorted(self._scales) or self._input_square is None:
            return None
        first, *paths = [path for _, path in self._calls]
        normalized = set()
        activations = []
        for path in paths:
            kinds = [FUNCTIONS.get(node) for node in path or []]
            normalized.add(kinds[1:] == [None] and path is not None and path[1] in _BATCH_NORMALIZATIONS)
            if not kinds or kinds[0] is None or kinds[0] not in ACTIVATIONS or (len(kinds) > 1 and not all(normalized)):
                return None
            activations.append(kinds[0])
        if first or len(normalized) > 1:
            return None
        weights = [float(self._scales[name][0]) for name in names]
        biases = [0.0 if (bias := self._scales[name][1]) is None else float(bias) for name in names]
        batch_size = self._batch_size if normalized == {True} else None
        if batch_size is not None and (batch_size < 4 or set(activations) != {"relu"} or len(names) < 4):
            return None
        return Chain(names, activations, weights, biases, float(self._input_square), batch_size)


#: Nodes between two layers of a chain: of a normalization and an activation.
_LONGEST = 2
_BATCH_NORMALIZATIONS = ("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")


def _mean_squares(layer: Any) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        weight = layer.weight.float().square().mean() * layer.in_features
        return weight, None if layer.bias is None else layer.bias.float().square().mean()
