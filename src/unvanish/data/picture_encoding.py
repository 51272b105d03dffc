"""Encodes images and clips as x."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch

from unvanish.data.augmentation import PixelScale
from unvanish.data.encoding import Encoded
from unvanish.data.image_decoder import ImageDecoder


@final
@dataclass(frozen=True)
class Pictures:
    """Encodes files of images or clips, or arrays (N, C, H, W) of pixels in the range of the training images.

    Args:
        shape: (C, H, W), or of clips (C, T, H, W).
        scale: The mean and standard deviation that normalise pixels.
        white: The value of white in files with 16 bits; see ``ImageFolder``.
        reads_files: Whether files are accepted.
    """

    shape: list[int]
    scale: PixelScale
    white: int | None = None
    reads_files: bool = False

    def __call__(self, inputs: Any) -> Encoded:
        """Encode images."""
        paths = [inputs] if isinstance(inputs, str | Path) else inputs
        if isinstance(paths, list) and paths and all(isinstance(path, str | Path) for path in paths):
            if not self.reads_files:
                raise ValueError(f"the network takes arrays of pixels (N, {', '.join(map(str, self.shape))})")
            channels, *frames, height, width = self.shape
            decoder: Any = ImageDecoder(height, width, channels, self.white)
            if frames:
                from unvanish.data.clip_decoder import ClipDecoder

                decoder = ClipDecoder(decoder, frames[0])
            images = []
            for path in map(Path, paths):
                try:
                    images.append(decoder(path))
                except (OSError, ValueError) as error:
                    raise ValueError(f"{path}: {error}") from error
            return Encoded(self.scale(torch.from_numpy(np.stack(images))), {}, rows=[*map(str, paths)])
        pixels = torch.as_tensor(np.asarray(paths))
        if list(pixels.shape[1:]) != self.shape:
            raise ValueError(
                f"the network takes pixels (N, {', '.join(map(str, self.shape))}), not {[*pixels.shape]}"
                + ", or the paths of images" * self.reads_files
            )
        return Encoded(self.scale(pixels), {})

    def plain(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and JSON."""
        scale = {"mean": self.scale.mean.flatten().tolist(), "std": self.scale.std.flatten().tolist()}
        return {"shape": self.shape, "scale": scale, "white": self.white, "reads_files": self.reads_files}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild it from the values of ``plain``."""
        shape = (-1, *[1] * (len(plain["shape"]) - 1))
        mean, std = (torch.tensor(plain["scale"][name]).reshape(shape) for name in ("mean", "std"))
        return cls(plain["shape"], PixelScale(mean, std), plain["white"], plain["reads_files"])
