"""A small and fast convolutional network, for small images and clips.

Shapes: B samples, C channels, S the axes of space: (height, width) of images, (time, height, width) of clips.
"""

import math
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from unvanish.activations import ActivationName
from unvanish.bounds import PositiveInt
from unvanish.networks.convolution import Parts, channels_last
from unvanish.networks.initialization import initialize
from unvanish.networks.normalization import NormalizationName
from unvanish.training import ReferenceModule, Training


@final
class Stage(nn.Module):
    """a = activation(normalization(pool(conv(x)))), plus pool(x) where ``residual``.

    To pool first leaves a quarter of the points (of a clip an eighth) to normalize. With a ``kernel_size`` the
    convolution is of that size and takes steps of two, and nothing is left to pool.
    """

    def __init__(
        self, parts: Parts, inputs: int, outputs: int, residual: bool = False, kernel_size: int | None = None
    ) -> None:
        super().__init__()
        self.residual = residual
        is_strided = kernel_size is not None
        self.conv = parts.convolve(inputs, outputs, stride=2 if is_strided else 1, kernel_size=kernel_size or 3)
        self.pool: nn.Module = nn.Identity() if is_strided else parts.pool()
        self.normalization = parts.normalize(outputs)
        self.activation = parts.activate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S) -> (B, outputs, *floor(S / 2)), or *ceil(S / 2) where the convolution halves."""
        a: Tensor = self.activation(self.normalization(self.pool(self.conv(x))))
        return a + self.pool(x) if self.residual else a


@final
class CompactCNN(ReferenceModule):
    """A 3x3 convolution, a max-pool by 2, normalization and activation, stage after stage; then a linear output.

    The output reads every point of the last maps, not their mean: for digits it matters where a stroke is. Dropout
    acts before it.

    Args:
        input_shape: (channels, height, width) of images or (channels, time, height, width) of clips.
        output_size: Number of outputs: classes, regression targets, or 1 for a binary task.
        channels: Channels of each stage; every stage halves each axis.
        activation: Of the hidden layers.
        initialization: auto (fits the activation), default (torch's), xavier_uniform, xavier_normal, he_uniform,
            he_normal, lecun_normal, orthogonal, normal(std) or mean_field(sigma_w2, sigma_b2): see ``initialize``.
            Biases are drawn, with sigma_b2 above 0, only where convolutions have them.
        normalization: none, batch or group; convolutions have a bias with none only.
        residual: Add its pooled input to the output of each stage but the first, where it has as many channels.
        stem_kernel_size: Let the first stage be a convolution of this odd size with stride 2, and no pool: a quarter of
            the work of that stage for as large a kernel. None: as the other stages.
        training: The shared training configuration.

    Raises:
        ValueError: a name or size is wrong, the input is too small for its stages, or no stage can be residual.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        channels: list[int],
        activation: ActivationName = "relu",
        initialization: str = "auto",
        normalization: NormalizationName = "batch",
        residual: bool = False,
        stem_kernel_size: int | None = None,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        parts = Parts.fitting(input_shape, activation, normalization)
        if not channels or min(channels) < 1:
            raise ValueError(f"channels is {channels}; it needs a stage, and every stage a channel")
        halvings = min(input_shape[1:]).bit_length() - 1
        if len(channels) > halvings:
            raise ValueError(
                f"channels has {len(channels)} stages, and each halves every axis: an input of shape "
                f"{tuple(input_shape)} allows {halvings}"
            )
        if residual and not any(inputs == outputs for inputs, outputs in pairwise(channels)):
            raise ValueError(
                "residual adds a stage's input to its output: two neighbours in channels must be equal, and none are "
                f"in {channels}"
            )
        if stem_kernel_size is not None and (stem_kernel_size < 1 or stem_kernel_size % 2 == 0):
            raise ValueError(f"stem_kernel_size is {stem_kernel_size}; it must be an odd number")
        self.stages = nn.Sequential(
            Stage(parts, input_shape[0], channels[0], kernel_size=stem_kernel_size),
            *(Stage(parts, *sizes, residual=residual and sizes[0] == sizes[1]) for sizes in pairwise(channels)),
        )
        self.dropout = nn.Dropout(training.regularization.dropout)
        up = 0 if stem_kernel_size is None else 1  # the last step of two may begin at the last point
        points = math.prod((size + up) >> len(channels) for size in input_shape[1:])
        self.output = nn.Linear(channels[-1] * points, output_size)
        initialize(self, initialization, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> logits (B, output_size), or (B,) for a binary task."""
        # flatten would copy these maps itself, but torch 2.14 compiles it to a view where GroupNorm made them.
        a = self.stages(channels_last(x)).clone(memory_format=torch.contiguous_format)
        return self.logits_of(self.output(self.dropout(a.flatten(start_dim=1))))
