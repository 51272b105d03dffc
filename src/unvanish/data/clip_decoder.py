"""Reads a short video as bytes of one length and size."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unvanish.data.image_decoder import SUFFIXES as IMAGE_SUFFIXES
from unvanish.data.image_decoder import ImageDecoder
from unvanish.extras import extra

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".gif")
FRAME_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in SUFFIXES)


@final
@dataclass(frozen=True)
class ClipDecoder:
    """Reads clips as bytes of one length and size.

    The clip is cut into equal pieces, and the middle frame of each is taken; a short clip repeats some.

    Args:
        image: Decodes a frame.
        frames: Number of frames.
    """

    image: ImageDecoder
    frames: int

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Read a video file, or a folder whose images are the frames, in the order of the numbers in their names.

        Returns:
            uint8 (channels, frames, height, width).

        Raises:
            OSError: It is not a complete video; FFmpeg and Pillow raise other errors as well.
            ValueError: It has no frames, or fewer than it says.
        """
        if path.is_dir():
            files = sorted((file for file in path.iterdir() if is_frame(file)), key=_natural)
            frames = {i: self.image(files[i]) for i in set(self._taken(len(files)))}
            return self._joined(frames, len(files))
        if not path.is_file():
            raise ValueError("not a regular file")
        av = extra("av")
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError("no video in it")
            says = container.streams.video[0].frames  # 0 where it does not say
            ends = [_end(packet) for packet in container.demux(video=0) if packet.size > 0]
            packets, seconds = len(ends), _seconds(container)
            if ends and max(ends) < seconds:
                raise ValueError(f"it ends after {max(ends):.1f} of {seconds:.1f} seconds: truncated or damaged")
        count = max(packets, says)
        frames, decoded = self._decoded(path, count)
        if decoded < packets and packets >= says:  # nothing is cut off, but not every packet is a frame to show
            count = decoded
            frames, _ = self._decoded(path, count)
        return self._joined(frames, count)

    def _decoded(self, path: Path, count: int) -> tuple[dict[int, NDArray[np.uint8]], int]:
        """The wanted frames of ``count``, as far as they could be decoded, and the number of frames decoded."""
        taken, frames, decoded = set(self._taken(count)), {}, 0
        with extra("av").open(path) as container:
            for frame in container.decode(video=0):
                if decoded in taken:
                    frames[decoded] = self.image.fit(Image.fromarray(frame.to_ndarray(format="rgb24")))
                decoded += 1
        return frames, decoded

    def _taken(self, count: int) -> list[int]:
        if not count:
            raise ValueError("no frames in it")
        return [(2 * i + 1) * count // (2 * self.frames) for i in range(self.frames)]

    def _joined(self, frames: dict[int, NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
        taken = self._taken(count)
        missing = set(taken) - frames.keys()
        if missing:
            raise ValueError(f"frame {min(missing) + 1} of {count} is missing: the file is truncated or damaged")
        return np.stack([frames[i] for i in taken], axis=1)


def _end(packet: Any) -> float:
    return float(((packet.pts or 0) + (packet.duration or 0)) * (packet.time_base or 0))


def _seconds(container: Any) -> float:
    """The second up to which a Matroska file, which has no frame count, should have frames; 0 if it does not say."""
    video = container.streams.video[0]
    said = video.metadata.get("DURATION")
    if "matroska" not in container.format.name or not (said or (container.duration and len(container.streams) == 1)):
        return 0.0
    seconds = (container.duration or 0) / 1e6
    clock = [float(part) for part in said.split(":")] if said else [0, 0, seconds]
    return 3600 * clock[0] + 60 * clock[1] + clock[2] - 1.5 / float(video.average_rate or 10)


def is_frame(path: Path) -> bool:
    """Whether a file is an image that may be one of a clip's."""
    return path.suffix.lower() in FRAME_SUFFIXES and path.name[0] != "."


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]
