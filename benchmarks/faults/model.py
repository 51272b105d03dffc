"""Networks of torch's own layers from rows of facts, with the initial weights of Keras."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from benchmarks.faults.cases import Facts
from benchmarks.faults.initialization import initialize
from benchmarks.faults.layers import CELLS, POOLS, MeanOver, Move, Pad, Recurrent, Reshape, Same, activation, same_pads

#: Layers that look for the channels on the first axis after the batch's; the others look on the last.
_CHANNELS_FIRST = ("conv1d", "conv2d", *POOLS, "global_avg_pool1d", "global_avg_pool2d")
#: All that a layer may say of itself.
_FIELDS = {
    *("type", "repeat", "name", "activation", "init", "bias_init", "use_bias", "l1", "l2", "frozen"),
    *("units", "filters", "kernel", "strides", "padding", "size", "rate", "shape", "vocabulary"),
    *("return_sequences", "recurrent_init", "recurrent_activation", "momentum", "epsilon", "frozen_statistics"),
}


def unknown(layers: Sequence[Facts]) -> list[str]:
    """The fields of layers that are not known here."""
    return sorted({field for layer in layers for field in layer} - _FIELDS)


def model_of(layers: Sequence[Facts], input_shape: Sequence[int]) -> tuple[nn.Sequential, Callable[[], Tensor | float]]:
    """The network, and the penalties that its layers add to the loss."""
    builder = _Builder(input_shape, any(layer["type"] == "conv1d" for layer in layers))
    for layer in _repeated(layers):
        builder.add(layer)
    return nn.Sequential(*builder.modules), lambda: sum(_penalties(builder.penalized))


def _repeated(layers: Iterable[Facts]) -> Iterator[Facts]:
    for layer in layers:
        for _ in range(layer.get("repeat", 1)):
            yield layer


def _penalties(weights: Iterable[tuple[Tensor, Facts]]) -> Iterator[Tensor]:
    for weight, layer in weights:
        if layer.get("l1"):
            yield layer["l1"] * weight.abs().sum()
        if layer.get("l2"):
            yield layer["l2"] * weight.square().sum()


class _Builder:
    """Puts layer after layer, and keeps the shape (without the batch) that the next one gets."""

    def __init__(self, input_shape: Sequence[int], has_conv1d: bool) -> None:
        self.shape = list(input_shape)
        self.modules: list[nn.Module] = []
        self.penalized: list[tuple[Tensor, Facts]] = []
        self.is_channels_first = len(self.shape) == 3 or (len(self.shape) == 2 and has_conv1d)

    def add(self, layer: Facts) -> None:
        kind: str = layer["type"]
        if len(self.shape) > 1:
            if kind in _CHANNELS_FIRST:
                self._look(first=True)
            elif kind in ("dense", *CELLS):
                self._look(first=False)
        if kind in ("conv1d", "conv2d"):
            self._convolution(layer)
        elif kind in POOLS:
            self._pool(layer)
        elif kind in CELLS:
            self._recurrent(layer)
        else:
            make = getattr(self, f"_{kind}", None)
            if make is None:
                raise ValueError(f"no layer is called {kind}")
            make(layer)
        name = layer["name"] if kind == "activation" else layer.get("activation") or "linear"
        if name != "linear":
            self.modules.append(activation(name, 1 if self.is_channels_first else -1))

    def _look(self, first: bool) -> None:
        """Have the channels on the first axis, or on the last."""
        if self.is_channels_first != first:
            source, destination = (-1, 1) if first else (1, -1)
            self.modules.append(Move(source, destination))
            self.shape = [self.shape[-1], *self.shape[:-1]] if first else [*self.shape[1:], self.shape[0]]
            self.is_channels_first = first

    def _weighted(self, module: nn.Linear | nn.Conv1d | nn.Conv2d, layer: Facts) -> None:
        initialize(module.weight, layer.get("init", "glorot_uniform"))
        if module.bias is not None:
            default = "torch_default" if layer.get("init") == "torch_default" else "zeros"
            initialize(module.bias, layer.get("bias_init", default))
        if layer.get("frozen"):
            module.requires_grad_(False)
        self.penalized.append((module.weight, layer))
        self.modules.append(module)

    def _dense(self, layer: Facts) -> None:
        self._weighted(nn.Linear(self.shape[-1], layer["units"], bias=layer.get("use_bias", True)), layer)
        self.shape[-1] = layer["units"]

    def _convolution(self, layer: Facts) -> None:
        kind, axes = (nn.Conv1d, 1) if layer["type"] == "conv1d" else (nn.Conv2d, 2)
        kernel, stride = _each(layer["kernel"], axes), _each(layer.get("strides") or 1, axes)
        sizes, padding = self._windows(layer, kernel, stride)
        before = tuple(reversed(padding[::2]))
        if padding[::2] != padding[1::2]:
            self.modules.append(Pad(padding))
            before = (0,) * axes
        make: Callable[..., nn.Conv1d | nn.Conv2d] = kind
        bias = layer.get("use_bias", True)
        self._weighted(make(self.shape[0], layer["filters"], kernel, stride, before, bias=bias), layer)
        self.shape = [layer["filters"], *sizes]

    def _pool(self, layer: Facts) -> None:
        axes = 1 if layer["type"].endswith("1d") else 2
        size = _each(layer.get("size") or 2, axes)
        stride = _each(layer.get("strides") or size, axes)
        sizes, padding = self._windows(layer, size, stride)
        make: Callable[..., nn.Module] = POOLS[layer["type"]]
        pool = make(size, stride)
        self.modules.append(Same(pool, size, stride) if any(padding) else pool)
        self.shape = [self.shape[0], *sizes]

    def _windows(self, layer: Facts, kernel: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
        """The sizes that windows leave, and what is padded for it."""
        if layer.get("padding", "valid") == "same":
            sizes = [math.ceil(size / s) for size, s in zip(self.shape[1:], stride, strict=True)]
            return sizes, same_pads(self.shape[1:], kernel, stride)
        sizes = [(size - k) // s + 1 for size, k, s in zip(self.shape[1:], kernel, stride, strict=True)]
        return sizes, [0] * (2 * len(kernel))

    def _recurrent(self, layer: Facts) -> None:
        kind, units = layer["type"], layer["units"]
        more = {"nonlinearity": layer.get("recurrent_activation", "tanh")} if kind == "simple_rnn" else {}
        make: Callable[..., nn.RNNBase] = CELLS[kind]
        cell = make(self.shape[-1], units, batch_first=True, **more)
        init = layer.get("init", "glorot_uniform")
        if init != "torch_default":
            for name, parameter in cell.named_parameters():
                if name.startswith("bias"):
                    nn.init.zeros_(parameter)
                else:  # all gates at once, as one matrix
                    initialize(parameter, layer.get("recurrent_init", "orthogonal") if "_hh_" in name else init)
            if kind == "lstm":  # Keras adds 1 to the forget gate
                nn.init.ones_(cell.get_parameter("bias_ih_l0").data[units : 2 * units])
        if layer.get("frozen"):
            cell.requires_grad_(False)
        self.penalized.append((cell.get_parameter("weight_ih_l0"), layer))
        sequences = layer.get("return_sequences", False)
        self.modules.append(Recurrent(cell, sequences))
        self.shape = [self.shape[0], units] if sequences else [units]

    def _batchnorm(self, layer: Facts) -> None:
        channels = self.shape[0 if self.is_channels_first else -1]
        kind = nn.BatchNorm2d if len(self.shape) == 3 else nn.BatchNorm1d
        momentum = 0.0 if layer.get("frozen_statistics") else 1 - layer.get("momentum", 0.99)
        norm = kind(channels, eps=layer.get("epsilon", 1e-3), momentum=momentum)
        moves = len(self.shape) > 1 and not self.is_channels_first
        self.modules += [Move(-1, 1), norm, Move(1, -1)] if moves else [norm]

    def _flatten(self, _: Facts) -> None:
        self.modules.append(nn.Flatten())
        self.shape, self.is_channels_first = [math.prod(self.shape)], False

    def _reshape(self, layer: Facts) -> None:
        self.modules.append(Reshape(layer["shape"]))
        self.shape, self.is_channels_first = list(layer["shape"]), len(layer["shape"]) == 3

    def _dropout(self, layer: Facts) -> None:
        self.modules.append(nn.Dropout(layer["rate"]))

    def _embedding(self, layer: Facts) -> None:
        table = nn.Embedding(layer["vocabulary"], layer["units"])
        initialize(table.weight, layer.get("init", "random_uniform"))
        self.modules.append(table)
        self.shape, self.is_channels_first = [*self.shape, layer["units"]], False

    def _global_avg_pool2d(self, _: Facts) -> None:
        self.modules.append(MeanOver(*range(2, 1 + len(self.shape))))
        self.shape, self.is_channels_first = self.shape[:1], False

    _global_avg_pool1d = _global_avg_pool2d

    def _activation(self, _: Facts) -> None:
        """Its module is that of any layer's activation."""


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def last_layer(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last dense layer."""
    dense: list[Any] = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return list(dense[-1].parameters())
