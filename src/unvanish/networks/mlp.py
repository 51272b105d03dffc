"""The multilayer perceptron, for tables and small images.

Shapes: B samples, d input features, h units of a hidden layer, C outputs.
"""

import math
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from unvanish.activations import ActivationName, build_activation
from unvanish.bounds import PositiveInt
from unvanish.networks.initialization import initialize
from unvanish.networks.normalization import NormalizationName, build_normalization
from unvanish.training import ReferenceModule, Training


@final
class HiddenLayer(nn.Sequential):
    """a = dropout(activation(normalization(W x + b))), plus x itself where ``residual``."""

    def __init__(
        self, inputs: int, outputs: int, activation: str, normalization: str, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.add_module("linear", nn.Linear(inputs, outputs))
        self.add_module("normalization", build_normalization(normalization, outputs))
        self.add_module("activation", build_activation(activation))
        if dropout:
            self.add_module("dropout", nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        a: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + a if self.residual else a


@final
class MLP(ReferenceModule):
    """A multilayer perceptron: z = W a + b and a = activation(z), layer after layer (Rumelhart et al. 1986).

    Args:
        input_shape: Axes of one sample; they are flattened.
        output_size: Number of outputs: classes, regression targets, or 1 for a binary task.
        hidden_sizes: Units of each hidden layer; or one number, the width of all of them.
        num_layers: Layers with weights, the output layer counted; only where hidden_sizes is one number.
        activation: Of the hidden layers.
        initialization: auto (fits the activation), default (torch's), xavier_uniform, xavier_normal, he_uniform,
            he_normal, lecun_normal, orthogonal, normal(std) or mean_field(sigma_w2, sigma_b2): see ``initialize``.
        normalization: none, batch or layer; between a hidden layer's linear map and its activation.
        residual: Add its input to the output of each hidden layer but the first (He et al. 2016).
        training: The shared training configuration.

    Raises:
        ValueError: a name or size is wrong, or no hidden layer can be residual.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        hidden_sizes: list[int] | int,
        num_layers: int | None = None,
        activation: ActivationName = "relu",
        initialization: str = "auto",
        normalization: NormalizationName = "none",
        residual: bool = False,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        sizes = [math.prod(input_shape), *_sizes(hidden_sizes, num_layers)]
        if residual and not any(inputs == outputs for inputs, outputs in pairwise(sizes[1:])):
            raise ValueError(
                f"residual adds a hidden layer's input to its output: two neighbours in hidden_sizes must be equal, "
                f"and none are in {sizes[1:]}"
            )
        self.hidden = nn.Sequential(
            *(
                HiddenLayer(
                    inputs,
                    outputs,
                    activation,
                    normalization,
                    training.regularization.dropout,
                    residual=residual and depth > 0 and inputs == outputs,
                )
                for depth, (inputs, outputs) in enumerate(pairwise(sizes))
            )
        )
        self.output = nn.Linear(sizes[-1], output_size)
        initialize(self, initialization, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> logits (B, output_size), or (B,) for a binary task."""
        return self.logits_of(self.output(self.hidden(x.flatten(start_dim=1))))


def _sizes(hidden_sizes: list[int] | int, num_layers: int | None) -> list[int]:
    if isinstance(hidden_sizes, int):
        if num_layers is not None and num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; there is always an output layer")
        hidden_sizes = [hidden_sizes] * (1 if num_layers is None else num_layers - 1)
    elif num_layers is not None:
        raise ValueError("num_layers goes with one number as hidden_sizes; a list says the depth itself")
    if any(size < 1 for size in hidden_sizes):
        raise ValueError(f"hidden_sizes is {hidden_sizes}; every layer needs at least one unit")
    return hidden_sizes
