"""Images in folders, a folder for each class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from unvanish.data.augmentation import UNCHANGED, Augmentation
from unvanish.data.cache import DecodingLoader
from unvanish.data.folders import Kind, SampleFolder, visible_files
from unvanish.data.loader import BatchLoader
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@final
@dataclass(frozen=True)
class ImageDecoder:
    """Reads images as bytes of one size.

    An image keeps its proportions: it is scaled until it covers the size, and the middle of it is cut out. It is
    turned as its camera held it; what is transparent becomes black.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: 1 for grey, 3 for red, green and blue.
        white: The value of white in images of 16 bits. None: 65535, and what stays below a sixteenth of it is refused.
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
        """Read a file; of one that moves, the first frame.

        Returns:
            uint8 (channels, height, width).

        Raises:
            OSError: There is no whole image in it; Pillow raises other errors as well.
            ValueError: It is no image, or has pixels that are not bytes.
        """
        if not path.is_file():
            raise ValueError("not a regular file")  # of a pipe, opening it would wait for ever
        try:
            with Image.open(path) as image:
                # A JPEG can be decoded to an eighth at once; twice the size leaves the scaling its quality.
                image.draft(None, (2 * max(self.height, self.width),) * 2)
                halved = image.mode[:2] in ("RG", "LA") and "16" in str(image.tile)  # Pillow keeps the upper byte
                pixels = self.fit(ImageOps.exif_transpose(image))
                if halved and pixels.max() < 16:
                    raise ValueError("its 16 bits use less than a sixteenth of their range and would be black")
                return pixels
        except UnidentifiedImageError as error:
            raise ValueError("not an image") from error

    def fit(self, image: Image.Image) -> NDArray[np.uint8]:
        """An open image as (channels, height, width)."""
        if image.mode.startswith("I;16"):
            values = np.asarray(image).astype(np.uint32)  # Pillow would cut at 255
            if self.white is None and 0 < values.max() < 2**12:
                raise ValueError(f"its 16 bits reach {values.max()} alone and would be black; give white, such as 4095")
            white = 2**16 if self.white is None else self.white + 1
            image = Image.fromarray((np.minimum(values, white - 1) * 256 // white).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"its pixels are of Pillow's mode {image.mode!r}, whose white is not known")
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
        image = image.convert("L" if self.channels == 1 else "RGB")
        pixels = np.asarray(ImageOps.fit(image, (self.width, self.height), Image.Resampling.BILINEAR))
        return pixels.reshape(self.height, self.width, self.channels).transpose(2, 0, 1).copy()


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and below it."""
    return [path for _, files in visible_files(folder) for path in files if path.suffix.lower() in SUFFIXES]


IMAGES = Kind("image", ", ".join(SUFFIXES), find_images)


@final
class ImageFolder(InMemoryData):
    """Images of your own to classify: x is (B, channels, height, width), normalised per channel by the training split.

    Either ``path`` holds a folder for each class, and the splits are cut from those, with every class's share; or it
    holds train/, and val/ or test/ or both, each with a folder for each class; what is absent is cut from train/.
    Two classes are a binary task; of them, sorted by name, the second is positive.

    An image is scaled until it covers ``image_size``, and its middle cut out. All files are decoded once, which finds
    those that cannot be read, and stay bytes until they are on the network's device.

    Args:
        path: The folder.
        image_size: Side of a square in pixels, or [height, width].
        channels: 1 for grey, 3 for colour.
        white: The value of white in grey images of 16 bits. None: 65535, and what stays below a sixteenth is refused.
        predict_path: A folder of images to predict, in the order of their names. Without it the test split is
            predicted.
        on_error: refuse or skip images that cannot be read; of those to predict none is skipped.
        cache: memory; file (in ``cache_folder``, where the next run finds it); none (worker processes decode every
            batch anew); or auto: memory if a quarter of the machine's is enough, else file if it fits on the disk,
            else none.
        cache_folder: For files; delete them when you like.
        augmentation: How training images vary.
        loading: How it is cut into splits and batches.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a folder is not as it should be, or images
            cannot be read.
        FileNotFoundError: There is no such folder (on first use).
    """

    def __init__(
        self,
        path: str | None = None,
        image_size: int | list[int] = 64,
        channels: int = 3,
        white: int | None = None,
        predict_path: str | None = None,
        on_error: str = "refuse",
        cache: str = "auto",
        cache_folder: str = "~/.cache/unvanish",
        augmentation: Augmentation = UNCHANGED,
        loading: Loading = Loading(),
    ) -> None:
        super().__init__(loading, augmentation=augmentation)
        decoder = ImageDecoder.of_size(image_size, channels, white)
        augmentation.fit(decoder.height, decoder.width)
        self.samples = SampleFolder(
            path=path,
            predict_path=predict_path,
            kind=IMAGES,
            decoder=decoder,
            shape=(channels, decoder.height, decoder.width),
            loading=loading,
            on_error=on_error,
            cache=cache,
            cache_folder=cache_folder,
        )

    @property
    def description(self) -> Description:
        """Known from the names of the folders, which are read on first use."""
        return self.samples.description

    def read(self) -> Splits:
        """Decode the files, or find where they have been."""
        splits, self.pixels = self.samples.read()
        return splits

    def _decoding(self, order: BatchLoader) -> BatchLoader | DecodingLoader:
        return self.samples.loader(order, device_resident=self.loading.device_resident)
