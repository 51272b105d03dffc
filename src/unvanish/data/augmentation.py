"""What is done to a batch of images or clips on the network's device: normalization, and random changes in training.

Shapes: B samples, C channels, T frames, height H, width W; x is (B, C, H, W) or (B, C, T, H, W).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from unvanish.bounds import NonNegativeInt, check_bounds


@final
@dataclass(frozen=True)
class PixelScale:
    """Normalises pixels per channel.

    Args:
        mean: (C, 1, 1) or (C, 1, 1, 1), of the training split's pixels.
        std: Their standard deviation, of the same shape; where it is 0, pixels are only centred.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", torch.where(self.std > 0, self.std, 1))

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, ...) of any type to float32, mean 0 and standard deviation 1 over the training split."""
        return pixels.to(torch.float32, copy=True).sub_(self.mean.to(pixels.device)).div_(self.std.to(pixels.device))

    @cached_property
    def black(self) -> Tensor:
        """What a pixel of 0, the background, has become; of the shape of ``mean``."""
        return -self.mean / self.std


@dataclass(frozen=True)  # not final: jsonargparse refuses a final class as a default
class Augmentation:
    """Random changes of the training images, drawn for each sample; all frames of a clip get the same.

    Args:
        crop: Pixels of background added on each side before a window of the old size is cut out anywhere.
        flip: Mirror left and right with probability 1/2.
        cutout: Side of a square that is set to the training mean, its centre anywhere in the image, so that a part of
            it may lie outside (DeVries and Taylor 2017).

    Raises:
        ValueError: A number is negative.
    """

    crop: NonNegativeInt = 0
    flip: bool = False
    cutout: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_bounds(Augmentation, vars(self), "augmentation.")

    def fit(self, height: int, width: int) -> None:
        """Refuse images that are too small.

        Raises:
            ValueError: A crop could miss the image, or the cutout is larger than it.
        """
        if self.crop >= min(height, width):
            raise ValueError(f"augmentation: crop {self.crop} is too large for images of {height} x {width} pixels")
        if self.cutout > min(height, width):
            raise ValueError(f"augmentation: cutout {self.cutout} is larger than images of {height} x {width} pixels")

    def __call__(self, x: Tensor, black: Tensor, seed: Sequence[int]) -> Tensor:
        """An augmented copy of a batch.

        Args:
            x: Normalised images or clips.
            black: What the crop fills with: the background, (C, 1, 1) or (C, 1, 1, 1).
            seed: Whole numbers that fix what is drawn, the same on every device.
        """
        if self == UNCHANGED:
            return x
        batch, (height, width) = len(x), x.shape[-2:]
        # All is drawn on the CPU, and whether or not it is used, so that one option does not change what another draws.
        random = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        offset = torch.randint(-self.crop, self.crop + 1, (2, batch), generator=random).to(x.device)
        mirrored = torch.randint(2, (batch,), generator=random).bool().to(x.device)
        centre = torch.stack([torch.randint(side, (batch,), generator=random) for side in (height, width)]).to(x.device)
        if self.crop or self.flip:
            x = _window(x, offset, mirrored & self.flip, black.to(x))
        if self.cutout:
            first = centre - self.cutout // 2
            rows, columns = (
                (index >= start[:, None]) & (index < start[:, None] + self.cutout)
                for index, start in zip(_indices(x), first, strict=True)
            )
            x = x.masked_fill(_per_sample(rows[:, :, None] & columns[:, None, :], x), 0)
        return x


#: Leaves every image as it is.
UNCHANGED = Augmentation()


def _window(x: Tensor, offset: Tensor, mirrored: Tensor, black: Tensor) -> Tensor:
    """The image's pixels from (row, column) ``offset`` (2, B) on, mirrored (B,) or not; black outside."""
    height, width = x.shape[-2:]
    rows, columns = (index + start[:, None] for index, start in zip(_indices(x), offset, strict=True))
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    # One gather: a black pixel lies behind the last one of each image.
    source = torch.where(inside, rows[:, :, None] * width + columns[:, None, :], height * width)
    pixels = torch.cat([x.flatten(-2), black.expand(*x.shape[:-2], 1, 1).flatten(-2)], dim=-1)
    return pixels.gather(-1, _per_sample(source, x).expand(x.shape).flatten(-2)).view(x.shape)


def _indices(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(x.shape[-2], device=x.device), torch.arange(x.shape[-1], device=x.device)


def _per_sample(values: Tensor, x: Tensor) -> Tensor:
    """(B, H, W) as (B, 1, H, W) or (B, 1, 1, H, W), to go with x."""
    return values.view(len(x), *[1] * (x.ndim - 3), *x.shape[-2:])
