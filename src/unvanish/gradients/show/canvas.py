"""A white picture to draw and to write on, as PNG: what takes matplotlib a tenth of a second takes this a hundredth."""

import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

#: Marks of radius 1, by the letters that matplotlib has for them; y grows downwards.
_MARKS: dict[str, list[Point]] = {
    "o": [(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)],
    "s": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "D": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "^": [(0, -1), (1, 1), (-1, 1)],
    "v": [(0, 1), (1, -1), (-1, -1)],
}


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)


def width_of(text: str, size: int = 19) -> float:
    """How many pixels a text takes."""
    return _font(size).getlength(text)


@final
class Canvas:
    """Everything is in pixels from the upper left; what is written lies above what is drawn.

    Args:
        width: Of the picture.
        height: Of the picture.
        fine: How many times larger it is drawn, and then smoothed; 1 is enough for straight lines.
    """

    def __init__(self, width: int, height: int, fine: int) -> None:
        self.width, self.height, self._fine = width, height, fine
        self._image = Image.new("RGB", (fine * width, fine * height), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[float, float, str, str, int, int]] = []

    def line(self, points: Sequence[Point], colour: str, width: float = 1) -> None:
        """A line through points."""
        self._draw.line(
            [(self._fine * x, self._fine * y) for x, y in points], colour, round(self._fine * width), "curve"
        )

    def dashes(self, points: Sequence[Point], colour: str) -> None:
        """A broken line through points from the left to the right."""
        xs, ys = zip(*points, strict=True)
        for start in np.arange(xs[0], xs[-1], 14):
            inner = [start, *(x for x in xs if start < x < start + 8), min(start + 8, xs[-1])]
            self.line([*zip(inner, np.interp(inner, xs, ys).tolist(), strict=True)], colour, 2)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str, edge: str | None = "black") -> None:
        """A rectangle; with a hatched ground where it has no edge."""
        corners = [self._fine * round(place) for place in (left, top, right, bottom)]
        self._draw.rectangle(corners, fill, edge, self._fine)
        if edge is None:
            hatched = Image.new("RGB", (corners[2] - corners[0], corners[3] - corners[1]), fill)
            pen = ImageDraw.Draw(hatched)
            for x in range(0, hatched.width + hatched.height, 9 * self._fine):
                pen.line([(x, 0), (x - hatched.height, hatched.height)], "#999999", self._fine)
            self._image.paste(hatched, (corners[0], corners[1]))

    def mark(self, kind: str, x: float, y: float, size: float, colour: str, *, hollow: bool = False) -> None:
        """A mark, filled or not; "x" is a cross."""
        if kind == "x":
            for sign in (-1, 1):
                self.line([(x - size, y - sign * size), (x + size, y + sign * size)], colour, 2)
            return
        corners = [(x + size * dx, y + size * dy) for dx, dy in _MARKS[kind]]
        if hollow:
            self.line([*corners, corners[0], corners[1]], colour, 1.5)
        else:
            self._draw.polygon([(self._fine * x, self._fine * y) for x, y in corners], colour)

    def cells(self, colours: NDArray[np.uint8], left: float, top: float, right: float, bottom: float) -> None:
        """A table of colours (rows, columns, RGBA), the first row on top; what is transparent shows the ground."""
        corners = [self._fine * round(place) for place in (left, top, right, bottom)]
        size = corners[2] - corners[0], corners[3] - corners[1]
        picture = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
        self._image.paste(picture, (corners[0], corners[1]), picture)

    def text(self, x: float, y: float, text: str, anchor: str = "lm", *, size: int = 19, angle: int = 0) -> None:
        """Write a text.

        Args:
            x: Of the anchor.
            y: Of the anchor.
            text: One line.
            anchor: What of the text lies there: (l)eft, (m)iddle or (r)ight, then (t)op, (m)iddle or (b)ottom, which
                is the middle if the text is turned.
            size: Of the letters.
            angle: By which it is turned about the anchor, in degrees to the left.
        """
        self._texts.append((x, y, text, anchor, size, angle))

    def png(self) -> bytes:
        """What a file of the picture holds."""
        image = self._image.reduce(self._fine)
        pen = ImageDraw.Draw(image)
        for x, y, text, anchor, size, angle in self._texts:
            if angle:
                wide, high = math.ceil(width_of(text, size)), 2 * size
                turned = Image.new("L", (wide, high))
                ImageDraw.Draw(turned).text((wide / 2, high / 2), text, 255, _font(size), "mm")
                turned = turned.rotate(angle, Image.Resampling.BICUBIC, expand=True)
                along = {"l": wide / 2, "m": 0, "r": -wide / 2}[anchor[0]]  # from the anchor to the middle of the text
                left = x + along * math.cos(math.radians(angle)) - turned.width / 2
                top = y - along * math.sin(math.radians(angle)) - turned.height / 2
                image.paste("black", (round(left), round(top)), turned)
            else:
                pen.text((x, y), text, "black", _font(size), anchor.replace("t", "a").replace("b", "d"))
        buffer = io.BytesIO()
        image.save(buffer, "png", compress_level=1)
        return buffer.getvalue()
