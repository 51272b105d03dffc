"""Plain and residual convolutional networks in the CIFAR layout of He et al. 2016, for images and clips.

Shapes: B samples, C channels, S the axes of space: (height, width) of images, (time, height, width) of clips.
"""

import logging
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unvanish.activations import ActivationName
from unvanish.bounds import PositiveInt
from unvanish.networks.convolution import Parts, channels_last
from unvanish.networks.initialization import initialize
from unvanish.networks.normalization import NormalizationName
from unvanish.training import ReferenceModule, Training

log = logging.getLogger(__name__)


@final
class Halving(nn.Module):
    """Every second point of each axis, and channels of zeros: the shortcut A of He et al. 2016, without parameters."""

    def __init__(self, more_channels: int) -> None:
        super().__init__()
        self.more_channels = more_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C + more_channels, *ceil(S / 2))."""
        axes = x.dim() - 2
        halves = x[(slice(None), slice(None), *[slice(None, None, 2)] * axes)]
        return F.pad(halves, [0, 0] * axes + [0, self.more_channels])


@final
class Block(nn.Module):
    """Two convolutions, in a residual network with a shortcut: a = activation(n2(conv2(a1)) + shortcut(x)).

    a1 = activation(n1(conv1(x))), and n1 and n2 normalize.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = parts.convolve(inputs, outputs, stride=1 if inputs == outputs else 2)
        self.normalization1 = parts.normalize(outputs)
        self.activation1 = parts.activate()
        self.conv2 = parts.convolve(outputs, outputs)
        self.normalization2 = parts.normalize(outputs)
        self.activation2 = parts.activate()
        self.shortcut = _shortcut(inputs, outputs) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S) -> (B, outputs, *S), or half of S where the channels double."""
        z = self.activation1(self.normalization1(self.conv1(x)))
        z = self.normalization2(self.conv2(z))
        a: Tensor = self.activation2(z if self.shortcut is None else z + self.shortcut(x))
        return a


@final
class PreactivationBlock(nn.Module):
    """conv2(activation(n2(conv1(activation(n1(x)))))) + shortcut(x) (He et al. 2016b).

    The first block of a network follows an activation, and has no n1 and no activation before conv1.
    """

    def __init__(self, parts: Parts, inputs: int, outputs: int, is_first: bool) -> None:
        super().__init__()
        self.normalization1 = nn.Identity() if is_first else parts.normalize(inputs)
        self.activation1 = nn.Identity() if is_first else parts.activate()
        self.conv1 = parts.convolve(inputs, outputs, stride=1 if inputs == outputs else 2)
        self.normalization2 = parts.normalize(outputs)
        self.activation2 = parts.activate()
        self.conv2 = parts.convolve(outputs, outputs)
        self.shortcut = _shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S) -> (B, outputs, *S), or half of S where the channels double."""
        z = self.conv1(self.activation1(self.normalization1(x)))
        z = self.conv2(self.activation2(self.normalization2(z)))
        total: Tensor = z + self.shortcut(x)
        return total


@final
class CNN(ReferenceModule):
    """A plain or residual network of 6n + 2 layers (He et al. 2016, section 4.2).

    A 3x3 convolution; three stages of n blocks of two, with ``width``, 2 ``width`` and 4 ``width`` channels, the second
    and the third at half the size of the one before; the mean of each map; a linear output. Dropout acts before the
    output. With the defaults, and 20, 32, 44, 56 or 110 layers, these are the paper's ResNets.

    Without normalization the maps of a residual network with weights of variance 2 / fan_in about double their mean
    square at every block. ``initialization`` auto then divides the weights of conv2 in each of the L blocks by sqrt(L),
    which keeps it of one order, and says so; a scheme by name is taken at its word.

    Args:
        input_shape: (channels, height, width) of images or (channels, time, height, width) of clips; at least 4 long.
        output_size: Number of outputs: classes, regression targets, or 1 for a binary task.
        num_layers: Layers with weights: 8, 14, 20, ...
        width: Channels of the first stage.
        activation: Of the hidden layers.
        initialization: auto (fits the activation), default (torch's), xavier_uniform, xavier_normal, he_uniform,
            he_normal, lecun_normal, orthogonal, normal(std) or mean_field(sigma_w2, sigma_b2): see ``initialize``.
            Biases are drawn, with sigma_b2 above 0, only where convolutions have them.
        normalization: none, batch or group; convolutions have a bias with none only.
        residual: Add a block's input to what its two convolutions make of it; False is the plain network.
        preactivation: Normalize and activate before each convolution instead of after it, so that nothing stands
            between one block's sum and the next's (He et al. 2016b).
        training: The shared training configuration.

    Raises:
        ValueError: a name or size is wrong, or pre-activation is asked of a plain network.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        num_layers: int = 20,
        width: PositiveInt = 16,
        activation: ActivationName = "relu",
        initialization: str = "auto",
        normalization: NormalizationName = "batch",
        residual: bool = True,
        preactivation: bool = False,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        parts = Parts.fitting(input_shape, activation, normalization)
        if min(input_shape[1:]) < 4:
            raise ValueError(
                f"input_shape is {tuple(input_shape)}; two stages halve each axis, so it must be 4 or longer"
            )
        if preactivation and not residual:
            raise ValueError(
                "preactivation is about what stands between two shortcuts, and a plain network has none: before a "
                "convolution or behind the last one is the same place in it"
            )
        n = _blocks_of_a_stage(num_layers)
        widths = [width] * (n + 1) + [2 * width] * n + [4 * width] * n
        blocks = [
            PreactivationBlock(parts, *channels, depth == 0) if preactivation else Block(parts, *channels, residual)
            for depth, channels in enumerate(pairwise(widths))
        ]
        self.stem = parts.convolve(input_shape[0], width)
        self.normalization = parts.normalize(width)
        self.activation = parts.activate()
        self.stages = nn.Sequential(*(nn.Sequential(*blocks[i : i + n]) for i in (0, n, 2 * n)))
        self.last_normalization = parts.normalize(4 * width) if preactivation else nn.Identity()
        self.last_activation = parts.activate() if preactivation else nn.Identity()
        self.dropout = nn.Dropout(training.regularization.dropout)
        self.output = nn.Linear(4 * width, output_size)
        initialize(self, initialization, activation)
        if residual and (normalization, initialization) == ("none", "auto"):
            log.info(
                "initialization auto: conv2 of each block divided by sqrt(%d), as there is no normalization", 3 * n
            )
            with torch.no_grad():
                for block in blocks:
                    block.conv2.weight.div_((3 * n) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> logits (B, output_size), or (B,) for a binary task."""
        a = self.activation(self.normalization(self.stem(channels_last(x))))
        a = self.last_activation(self.last_normalization(self.stages(a)))
        return self.logits_of(self.output(self.dropout(a.flatten(start_dim=2).mean(dim=2))))


def _shortcut(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else Halving(outputs - inputs)


def _blocks_of_a_stage(num_layers: int) -> int:
    """The n in num_layers = 6n + 2."""
    n, rest = divmod(num_layers - 2, 6)
    if n < 1 or rest:
        near = f"{6 * n + 2} or {6 * n + 8}" if n >= 1 else "8"
        raise ValueError(f"num_layers is {num_layers}; three stages of 2n, the first and the last are 6n + 2: {near}")
    return n
