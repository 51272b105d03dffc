"""Reads an image as bytes of one size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@final
@dataclass(frozen=True)
class ImageDecoder:
    """Reads images as bytes of one size.

    The aspect ratio is kept: the image is scaled until it covers the size, and its center is cropped. It is rotated as
    its EXIF data say; transparent pixels become black.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: 1 for grey, 3 for red, green and blue.
        white: The value of white in 16-bit images. None: 65535, and images that stay below a sixteenth of it are
            refused.
    """

    height: int
    width: int
    channels: int
    white: int | None = None

    @classmethod
    def of_size(cls, image_size: int | list[int], channels: int, white: int | None = None) -> Self:
        """For squares of a side, or for [height, width].

        Raises:
            ValueError: They are not from 1 on, or the channels neither 1 nor 3, or white not of 16 bits.
        """
        if white is not None and not 0 < white < 2**16:
            raise ValueError(f"white must lie between 1 and 65535, not {white}")
        sizes = [image_size, image_size] if isinstance(image_size, int) else image_size
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(f"image_size is {image_size}; it is the side of a square, or [height, width]")
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels}")
        return cls(sizes[0], sizes[1], channels, white)

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Read a file; of an animation, the first frame.

        Returns:
            uint8 (channels, height, width).

        Raises:
            OSError: It is not a complete image; Pillow raises other errors as well.
            ValueError: It is not an image, or its pixels cannot be converted to bytes.
        """
        if not path.is_file():
            raise ValueError("not a regular file")  # of a pipe, opening it would wait for ever
        try:
            with Image.open(path) as image:
                # A JPEG can be decoded to an eighth at once; twice the size leaves the scaling its quality.
                image.draft(None, (2 * max(self.height, self.width),) * 2)
                halved = image.mode[:2] in ("RG", "LA") and "16" in str(image.tile)  # Pillow keeps the upper byte
                ImageOps.exif_transpose(image, in_place=True)
                pixels = self.fit(image)
                if halved and pixels.max() < 16:
                    raise ValueError("its 16-bit pixels use less than a sixteenth of their range and would look black")
                return pixels
        except UnidentifiedImageError as error:
            raise ValueError("not an image") from error

    def fit(self, image: Image.Image) -> NDArray[np.uint8]:
        """An open image as (channels, height, width)."""
        if image.mode.startswith("I;16"):
            values = np.asarray(image).astype(np.uint32)  # Pillow would cut at 255
            if self.white is None and 0 < values.max() < 2**12:
                raise ValueError(
                    f"its 16-bit pixels reach only {values.max()} and would look black; set white, such as 4095"
                )
            white = 2**16 if self.white is None else self.white + 1
            image = Image.fromarray((np.minimum(values, white - 1) * 256 // white).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"its pixels are of Pillow's mode {image.mode!r}, whose white is not known")
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
        mode = "L" if self.channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        pixels = np.asarray(ImageOps.fit(image, (self.width, self.height), Image.Resampling.BILINEAR))
        return pixels.reshape(self.height, self.width, self.channels).transpose(2, 0, 1).copy()
