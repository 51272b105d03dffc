"""Images or clips in folders, one per class: finding them, splitting them, and reporting unreadable ones."""

import logging
import math
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.data.augmentation import UNCHANGED, Augmentation, PixelScale
from unvanish.data.cache import CACHES, Decoded, Decoder, decode
from unvanish.data.clip_decoder import SUFFIXES as CLIP_SUFFIXES
from unvanish.data.clip_decoder import ClipDecoder, is_frame
from unvanish.data.encoding import Encoding
from unvanish.data.image_decoder import SUFFIXES, ImageDecoder
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.picture_encoding import Pictures
from unvanish.data.splits import Integers, split
from unvanish.names import lookup

logger = logging.getLogger(__name__)

#: Every name of a split's own folder.
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
PARTS = ("train", "validation", "test")


class Part(NamedTuple):
    """The samples of a split with the indices of their classes; no labels if they are unknown."""

    paths: list[Path]
    labels: list[int]


def _visible_files(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder from ``folder`` down, links followed, with its files; names that begin with a dot are hidden.

    Raises:
        ValueError: A link leads to a folder that has been visited.
    """
    seen: dict[str, str] = {}
    for root, folders, names in os.walk(folder, followlinks=True):
        if (first := seen.setdefault(os.path.realpath(root), root)) != root:
            raise ValueError(f"{root} and {first} are the same folder, through a link")
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield Path(root), [Path(root, name) for name in sorted(names) if not name.startswith(".")]


@final
class ImageFolder(InMemoryData):
    """Images or short videos of your own to classify, x normalised per channel by the training split.

    x is (B, channels, height, width), or (B, channels, frames, height, width) of clips. Either ``path`` holds one
    folder per class, and the splits are random and stratified; or it holds train/, and val/ or test/ or both, each with
    one folder per class; a missing split is taken from train/. Two classes are a binary task; of them, sorted by name,
    the second is positive. A clip is a video file, or a folder with its frames as images.

    An image is scaled until it covers ``image_size``, and its center is cropped. All files are decoded once, which
    finds those that cannot be read, and stay bytes until they are on the network's device.

    Args:
        path: The folder.
        frames: How many frames of a clip are taken, evenly spaced; a short clip repeats some. None: these are images.
        image_size: Side of a square in pixels, or [height, width].
        channels: 1 for grey, 3 for colour.
        white: The value of white in grey images of 16 bits. None: 65535, and what stays below a sixteenth is refused.
        predict_path: A folder of samples to predict, in the order of their names. Without it the test split is
            predicted.
        on_error: refuse or skip files that cannot be read; samples to predict are never skipped.
        cache: memory; or file, for data that do not fit in memory (in ``cache_folder``, where the next run finds it).
        cache_folder: Where files are cached; they can be deleted at any time.
        augmentation: How training samples vary; all frames of a clip do so together.
        loading: How it is split and batched.

    Raises:
        ValueError: An argument is out of its range, or (on first use) a folder has another layout, or samples
            cannot be read.
        FileNotFoundError: There is no such folder (on first use).
    """

    def __init__(
        self,
        path: str | None = None,
        frames: PositiveInt | None = None,
        image_size: int | list[int] = 64,
        channels: int = 3,
        white: int | None = None,
        predict_path: str | None = None,
        on_error: Literal["refuse", "skip"] = "refuse",
        cache: Literal["memory", "file"] = "memory",
        cache_folder: str = "~/.cache/unvanish",
        augmentation: Augmentation = UNCHANGED,
        loading: Loading = Loading(),
    ) -> None:
        check_bounds(ImageFolder, locals())
        super().__init__(loading, augmentation=augmentation)
        picture = ImageDecoder.of_size(image_size, channels, white)
        augmentation.fit(picture.height, picture.width)
        self.decoder: Decoder
        if frames is None:
            self.noun, self.looks, self.decoder = "image", ", ".join(SUFFIXES), picture
            self.shape: tuple[int, ...] = (channels, picture.height, picture.width)
        else:
            self.noun, self.looks = "clip", f"{', '.join(CLIP_SUFFIXES)}, or a folder of frames each"
            self.decoder = ClipDecoder(picture, frames)
            self.shape = (channels, frames, picture.height, picture.width)
        if path is None:
            raise ValueError(f"path is missing: the folder that holds a folder of {self.noun}s for each class")
        self.path = path
        self.predict_path = predict_path
        self.skips = lookup("treatment of errors", on_error, {"refuse": False, "skip": True})
        self.cache = lookup("cache", cache, {name: name for name in CACHES})
        self.cache_folder = Path(cache_folder)

    @property
    def description(self) -> Description:
        """Known from the names of the folders, which are read on first use."""
        names = self._listing[0]
        if len(names) == 2:
            return Description("binary", self.shape, 1, names)
        return Description("multiclass", self.shape, len(names), names)

    @property
    def encoding(self) -> Encoding:
        """The encoding of files by the decoder."""
        image = self.decoder.image if isinstance(self.decoder, ClipDecoder) else self.decoder
        assert self.splits
        assert self.pixels is not None
        return Pictures([*self.shape], self.pixels, getattr(image, "white", None), reads_files=True)

    def read(self) -> Splits:
        """Decode the files, or read them from the cache.

        Raises:
            ValueError: Samples cannot be read, or too few are left.
        """
        class_names, parts = self._listing
        predict = Part(self._samples(Path(self.predict_path)), []) if self.predict_path else Part([], [])
        paths = [path for part in (*parts.values(), predict) for path in part.paths]
        decoded = decode(paths, self.decoder, self.shape, cache=self.cache, folder=self.cache_folder)
        self._check(decoded, paths, len(predict.paths))
        # The files are in the order of the splits, so that a split is a slice, and not a copy.
        ends = np.searchsorted(decoded.files, np.cumsum([len(part.paths) for part in parts.values()]))
        labels = torch.tensor([label for part in parts.values() for label in part.labels])[decoded.files[: ends[-1]]]
        y = labels.float() if len(class_names) == 2 else labels
        for part, count in zip(PARTS, np.diff(ends, prepend=0), strict=True):
            if parts[part].paths and not count:
                raise ValueError(f"{self.path}: no {self.noun} of the {part} split can be read")
        absent = set(range(len(class_names))) - set(labels[: ends[0]].tolist())
        if absent:
            name = class_names[min(absent)]
            raise ValueError(f"{self.path}, class {name!r}: no {self.noun} to train on can be read")
        train, validation, test = (slice(start, end) for start, end in pairwise((0, *ends)))
        self.pixels = _scale(decoded.sums[train], self.shape)
        pixels = decoded.pixels
        return Splits(
            (pixels[train], y[train]),
            (pixels[validation], y[validation]),
            (pixels[test], y[test]),
            (pixels[ends[-1] :],) if self.predict_path else (),
            [str(paths[file]) for file in decoded.files[slice(ends[-1], None) if self.predict_path else test]],
        )

    @cached_property
    def _listing(self) -> tuple[list[str], dict[str, Part]]:
        """The class names, and the samples of each split in the order of ``PARTS``."""
        found = {part: self._classes(folder) for part, folder in self._split_folders().items()}
        class_names = sorted(found["train"])
        if len(class_names) < 2:
            raise ValueError(f"{self.path}: only one class, {class_names[0]!r}; each class needs a folder of its own")
        for part, classes in found.items():
            for name in classes:
                if name not in found["train"]:
                    raise ValueError(f"{self.path}: class {name!r} of the {part} split has nothing to train on")
        _refuse_twice([path for classes in found.values() for paths in classes.values() for path in paths])
        parts = {
            part: Part(
                [path for name in class_names for path in classes.get(name, [])],
                [label for label, name in enumerate(class_names) for _ in classes.get(name, [])],
            )
            for part, classes in found.items()
        }
        for part, share in (("test", self.loading.test_share), ("validation", self.loading.validation_share)):
            if part not in parts:
                parts["train"], parts[part] = self._cut(parts["train"], share, class_names)
        counts = ", ".join(f"{len(parts[part].paths)} {part}" for part in PARTS)
        logger.info("%s: %ss of %d classes, %s", self.path, self.noun, len(class_names), counts)
        return class_names, {part: parts[part] for part in PARTS}

    def _split_folders(self) -> dict[str, Path]:
        """The folders of the splits; that of train alone where the classes lie side by side."""
        folders = _folders(Path(self.path))
        own = {part: folder for name, folder in folders.items() if (part := SPLIT_FOLDERS.get(name))}
        if "train" not in own or (len(own) == 1 and len(folders) > 1):
            return {"train": Path(self.path)}
        if len(own) < len(folders):
            listed = ", ".join(sorted(folders))
            raise ValueError(f"{self.path}: either folders of classes, or train, val and test, not {listed}")
        return own

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        folders = _folders(folder)
        if not folders:
            raise ValueError(f"{folder}: no folders; put the {self.noun}s of each class in a folder of its own")
        return {name: self._samples(class_folder) for name, class_folder in folders.items()}

    def _samples(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        found = sorted(self._found(folder))
        if not found:
            raise ValueError(f"{folder}: no {self.noun}s ({self.looks})")
        return found

    def _found(self, folder: Path) -> list[Path]:
        """The samples in a folder and below it; of clips, also the folders below it that hold frames."""
        suffixes = SUFFIXES if self.noun == "image" else CLIP_SUFFIXES
        found = []
        for root, files in _visible_files(folder):
            found += [path for path in files if path.suffix.lower() in suffixes]
            if self.noun == "clip" and root != folder and any(map(is_frame, files)):
                found.append(root)
        return found

    def _cut(self, part: Part, share: float, class_names: list[str]) -> tuple[Part, Part]:
        names = [f"{self.path}, class {name!r}" for name in class_names]
        rest, cut = split(np.array(part.labels), names, [share], self.loading.split_seed)
        return _take(part, np.sort(rest)), _take(part, cut)

    def _check(self, decoded: Decoded, paths: list[Path], predicted: int) -> None:
        """Refuse or skip files that cannot be read; files to predict are never skipped, as each has a row."""
        needed = range(len(paths) - predicted if self.skips else 0, len(paths))
        missed = [file for file in decoded.refused if file in needed]
        text = f"{self.noun}s cannot be read: "
        if missed:
            hint = "" if self.skips else "; on_error=skip leaves them out"
            raise ValueError(f"{len(missed)} of {len(needed)} {text}{_named(missed, decoded, paths)}{hint}")
        if decoded.refused:
            left_out = list(decoded.refused)
            logger.warning("%d of %d %s%s; left out", len(left_out), len(paths), text, _named(left_out, decoded, paths))


def _refuse_twice(paths: list[Path]) -> None:
    """Refuse a sample that appears twice through links, maybe in two classes or splits."""
    folders = {parent: os.path.realpath(parent) for parent in {path.parent for path in paths}}
    seen: dict[str, Path] = {}
    for path in paths:
        real = os.path.realpath(path) if path.is_symlink() else os.path.join(folders[path.parent], path.name)
        if (first := seen.setdefault(real, path)) != path:
            raise ValueError(f"{path} and {first} are the same file, through a link")


def _named(files: list[int], decoded: Decoded, paths: list[Path]) -> str:
    first = "; ".join(f"{paths[file]} ({decoded.refused[file]})" for file in files[:3])
    return first + (f"; and {len(files) - 3} more" if len(files) > 3 else "")


def _folders(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}")
    return {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name[0] != "."}


def _take(part: Part, rows: Integers) -> Part:
    return Part([part.paths[row] for row in rows], [part.labels[row] for row in rows])


def _scale(sums: NDArray[np.int64], shape: tuple[int, ...]) -> PixelScale:
    """The scale of samples with the sums (M, 2, C); exact, so that it does not depend on where the pixels are kept."""
    total, squares = sums.sum(axis=0) / (len(sums) * math.prod(shape[1:]))
    std = np.sqrt(np.maximum(squares - total**2, 0))
    axes = (shape[0], *[1] * (len(shape) - 1))
    return PixelScale(torch.tensor(total).float().view(axes), torch.tensor(std).float().view(axes))
