"""Clips made from real digits that move, held in memory."""

from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.data.augmentation import PixelScale
from unvanish.data.images import DIGITS, cut, digits
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.names import lookup

#: Rows and columns from one frame to the next.
DIRECTIONS = {
    "right": (0, 1),
    "down": (1, 0),
    "left": (0, -1),
    "up": (-1, 0),
    "down_right": (1, 1),
    "down_left": (1, -1),
    "up_left": (-1, -1),
    "up_right": (-1, 1),
}
SIDE = 8  # of a digit


@final
class MovingDigits(InMemoryData):
    """Clips to classify: x is (B, 1, frames, size, size), normalised by the training split.

    In each clip one of scikit-learn's 8x8 digits moves over a black canvas, one pixel a frame in one direction, and
    what leaves it comes in on the other side. A digit of the test or the validation split is in no training clip; the
    test digits are those of ``Images``. The direction shows in no single frame.

    Args:
        label: What to tell: digit, or the direction.
        directions: 4 of them, or 8 with the diagonals.
        frames: T, at least 2.
        size: Side of the canvas in pixels, at least 8.
        clips: Clips to train on.
        validation_clips: Clips to validate on.
        test_clips: Clips to test on.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        label: Literal["digit", "direction"] = "digit",
        directions: int = 4,
        frames: int = 8,
        size: int = 16,
        clips: PositiveInt = 8000,
        validation_clips: PositiveInt = 500,
        test_clips: PositiveInt = 1000,
        loading: Loading = Loading(batch_size=64),
    ) -> None:
        check_bounds(MovingDigits, locals())
        super().__init__(loading)
        lookup("label", label, dict.fromkeys(("digit", "direction")))
        if directions not in (4, 8):
            raise ValueError(f"directions must be 4 or 8, not {directions}")
        for name, value, least in (("frames", frames, 2), ("size", size, SIDE)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.label = label
        self.directions = list(DIRECTIONS)[:directions]
        self.frames = frames
        self.size = size
        self.counts = (clips, validation_clips, test_clips)

    @property
    def description(self) -> Description:
        """Known without drawing anything."""
        names = DIGITS.split() if self.label == "digit" else self.directions
        return Description("multiclass", (1, self.frames, self.size, self.size), len(names), names)

    def read(self) -> Splits:
        """Draw the clips."""
        (x, y), test = digits(self.loading)
        training, validation = cut(y, self.loading.validation_share, self.loading, "digits", DIGITS.split())
        sources = ((x[training], y[training]), (x[validation], y[validation]), test)
        splits = [
            self._draw(*source, count, i) for i, (source, count) in enumerate(zip(sources, self.counts, strict=True))
        ]
        std, mean = torch.std_mean(splits[0][0], correction=0)
        self.pixels = scale = PixelScale(mean.view(1, 1, 1, 1), std.view(1, 1, 1, 1))
        parts = [(scale(clips), labels) for clips, labels in splits]
        return Splits(parts[0], parts[1], parts[2])

    def _draw(self, x: Tensor, y: Tensor, count: int, part: int) -> tuple[Tensor, Tensor]:
        """Clips (count, 1, T, size, size) of the digits (x, y), and their labels."""
        rng = np.random.default_rng((self.loading.split_seed, part))
        digit = torch.from_numpy(rng.integers(len(x), size=count))
        start = torch.from_numpy(rng.integers(self.size, size=(count, 2)))
        direction = torch.from_numpy(rng.integers(len(self.directions), size=count))
        step = torch.tensor([DIRECTIONS[name] for name in self.directions])[direction]
        corner = start[:, None] + torch.arange(self.frames)[:, None] * step[:, None]  # (count, T, 2)
        rows, columns = ((corner[..., axis, None] + torch.arange(SIDE)) % self.size for axis in (0, 1))
        clips = torch.zeros(count, self.frames, self.size, self.size)
        clip, frame = torch.arange(count)[:, None, None, None], torch.arange(self.frames)[:, None, None]
        clips[clip, frame, rows[..., :, None], columns[..., None, :]] = x[digit].expand(-1, self.frames, -1, -1)
        return clips.unsqueeze(1), y[digit] if self.label == "digit" else direction
