"""Layers that torch has no module for, and those of Keras by their names.

Shapes: B a batch, C channels, T time steps, F features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Exponential(nn.Module):
    """e^x."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class HardSigmoid(nn.Module):
    """Keras's: a fifth of x plus a half, between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0, 1)


class Reshape(nn.Module):
    """(B, ...) to (B, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)


class Move(nn.Module):
    """One axis to another place: channels to the last, where a dense or a recurrent layer of Keras looks, or back."""

    def __init__(self, source: int, destination: int) -> None:
        super().__init__()
        self.source, self.destination = source, destination

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.source, self.destination)


class Pad(nn.Module):
    """Zeros around the last axes, more of them at the end than at the start."""

    def __init__(self, pads: Sequence[int]) -> None:
        super().__init__()
        self.pads = list(pads)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads)


class MeanOver(nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


class Same(nn.Module):
    """Pads so that a window with this stride gives ceil(size / stride), the odd one at the end, as Keras does.

    ``inner`` is a pooling: an average leaves out what was padded.
    """

    def __init__(self, inner: nn.Module, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.inner, self.kernel, self.stride = inner, tuple(kernel), tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        pads = same_pads(x.shape[2:], self.kernel, self.stride)
        if isinstance(self.inner, nn.MaxPool1d | nn.MaxPool2d):
            return torch.as_tensor(self.inner(F.pad(x, pads, value=-math.inf)))
        ones = F.pad(torch.ones_like(x[:1, :1]), pads)
        return torch.as_tensor(self.inner(F.pad(x, pads)) / self.inner(ones))


def same_pads(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Before and after each axis, the last axis first, as ``F.pad`` wants them."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(sizes, kernel, stride, strict=True))):
        total = max(0, (math.ceil(size / s) - 1) * s + k - size)
        pads += [total // 2, total - total // 2]
    return pads


class Recurrent(nn.Module):
    """(B, T, F) to all states (B, T, units), or to the last one (B, units)."""

    def __init__(self, cell: nn.RNNBase, return_sequences: bool) -> None:
        super().__init__()
        self.cell, self.return_sequences = cell, return_sequences

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.cell(x)[0]
        return states if self.return_sequences else states[:, -1]


CELLS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "simple_rnn": nn.RNN}
POOLS: dict[str, type[nn.Module]] = {
    "maxpool1d": nn.MaxPool1d,
    "maxpool2d": nn.MaxPool2d,
    "avgpool1d": nn.AvgPool1d,
    "avgpool2d": nn.AvgPool2d,
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "exponential": Exponential,
    "hard_sigmoid": HardSigmoid,
}


def activation(name: str, axis: int) -> nn.Module:
    """An activation by Keras's name; a softmax over the axis of the channels."""
    if name == "softmax":
        return nn.Softmax(axis)
    if name == "leaky_relu":
        return nn.LeakyReLU(0.3)
    if name not in _ACTIVATIONS:
        raise ValueError(f"no activation is called {name}")
    return _ACTIVATIONS[name]()
