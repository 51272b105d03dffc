"""Image classification data sets, held in memory."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Literal, final

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from unvanish.data.augmentation import UNCHANGED, Augmentation, PixelScale
from unvanish.data.encoding import Encoding
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.picture_encoding import Pictures
from unvanish.data.splits import split
from unvanish.names import lookup

DIGITS = "0 1 2 3 4 5 6 7 8 9"
FASHION = "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle_boot"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Source:
    """Where the images come from: a class of torchvision.datasets and the folder it reads, or scikit-learn.

    ``white`` is the largest value that a pixel can have.
    """

    shape: tuple[int, int, int]
    classes: str
    archive: str = ""
    folder: str = ""
    white: int = 255


SOURCES = {
    "digits": Source((1, 8, 8), DIGITS, white=16),
    "mnist": Source((1, 28, 28), DIGITS, "MNIST", "MNIST/raw"),
    "fashion_mnist": Source((1, 28, 28), FASHION, "FashionMNIST", "FashionMNIST/raw"),
    "cifar10": Source((3, 32, 32), CIFAR10, "CIFAR10", "cifar-10-batches-py"),
    "cifar100": Source((3, 32, 32), CIFAR100, "CIFAR100", "cifar-100-python"),
}


@final
class Images(InMemoryData):
    """Small images to classify: x is (B, channels, height, width), float32.

    The official test split stays whole and in its order. ``digits`` has none: ``test_share`` of its rows is cut off.

    Args:
        dataset: digits (in scikit-learn), mnist, fashion_mnist, cifar10 or cifar100.
        root: Folder of torchvision's data sets; a missing one is downloaded to it.
        image_size: Side of the square that each image is averaged down to; it must divide the side of the images. None:
            their own.
        normalize: Give each channel mean 0 and standard deviation 1 over the training split; if not, pixels are from 0
            to 1.
        augmentation: How training images vary.
        loading: How it is split and batched.

    Raises:
        ValueError: The data set is unknown, or another argument is out of its range.
        FileNotFoundError: The data is neither in ``root`` nor could it be downloaded.
    """

    def __init__(
        self,
        dataset: Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"] = "digits",
        root: str = "data",
        image_size: int | None = None,
        normalize: bool = True,
        augmentation: Augmentation = UNCHANGED,
        loading: Loading = Loading(batch_size=64),
    ) -> None:
        self.source = lookup("dataset", dataset, SOURCES)
        has_official_test = bool(self.source.archive)
        super().__init__(loading, unused=["test_share"] * has_official_test, augmentation=augmentation)
        channels, side, _ = self.source.shape
        self.image_size = side if image_size is None else image_size
        if self.image_size < 1 or side % self.image_size:
            raise ValueError(f"image_size is {image_size}; it must divide {side}, the side of the images of {dataset}")
        self.shape = (channels, self.image_size, self.image_size)
        augmentation.fit(*self.shape[1:])
        self.normalize = normalize
        self.dataset = dataset
        self.root = Path(root)

    @property
    def description(self) -> Description:
        """Known without reading anything."""
        names = self.source.classes.split()
        return Description("multiclass", self.shape, len(names), names)

    def prepare_data(self) -> None:
        """Download the data set if its folder is missing; a failed download leaves nothing behind.

        Of several processes on a machine one does so; of several machines with one file system the fastest.
        """
        if not self.source.archive or self._folder.is_dir():
            return
        key = hashlib.sha256(f"{getattr(os, 'getuid', int)()} {self._folder.absolute()}".encode()).hexdigest()[:16]
        with FileLock(Path(gettempdir(), f"unvanish-{key}.lock")):
            if not self._folder.is_dir():
                self._download()

    def _download(self) -> None:
        with TemporaryDirectory() as incomplete:
            try:
                self._archive(incomplete, download=True)
            except (OSError, RuntimeError) as error:
                raise FileNotFoundError(f"{self.dataset} could not be downloaded; {self._remedy}") from error
            copy = self._folder.with_name(f".{self._folder.name}-{os.getpid()}.unfinished")
            shutil.copytree(Path(incomplete, self.source.folder), copy)
            try:
                copy.rename(self._folder)
            except OSError:  # another machine was faster
                shutil.rmtree(copy)

    @property
    def encoding(self) -> Encoding:
        """Pixels, from 0 to the largest value of the data set, of the size that ``image_size`` says."""
        assert self.splits
        assert self.pixels is not None
        return Pictures([*self.shape], self.pixels)

    def read(self) -> Splits:
        """Read the files, or the digits of scikit-learn."""
        if not self.source.archive:
            (x, y), (x_test, y_test) = digits(self.loading)
        else:
            x, y = self._official(train=True)
            x_test, y_test = self._official(train=False)
        share, names = self.loading.validation_share, self.source.classes.split()
        training, validation = cut(y, share, self.loading, self.dataset, names)
        x, x_test = (F.avg_pool2d(images, self.source.shape[1] // self.image_size) for images in (x, x_test))
        self.pixels = self._scale(x[training])
        x, x_test = self.pixels(x), self.pixels(x_test)
        return Splits((x[training], y[training]), (x[validation], y[validation]), (x_test, y_test))

    def _scale(self, x: Tensor) -> PixelScale:
        """The scale of the training images (N, C, H, W)."""
        if not self.normalize:
            return PixelScale(torch.zeros(len(x[0]), 1, 1), torch.full((len(x[0]), 1, 1), float(self.source.white)))
        std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
        return PixelScale(mean[:, None, None], std[:, None, None])

    def _official(self, *, train: bool) -> tuple[Tensor, Tensor]:
        try:
            archive = self._archive(self.root, train=train)
        except (RuntimeError, ValueError) as error:
            raise FileNotFoundError(f"{self.dataset} is absent or incomplete; {self._remedy}") from error
        x, y = torch.as_tensor(archive.data), torch.as_tensor(archive.targets)
        x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)  # (N, H, W) in MNIST, (N, H, W, C) in CIFAR
        return x.float(), y

    def _archive(self, root: str | Path, **options: bool) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.source.archive)(root, **options)

    @property
    def _folder(self) -> Path:
        return self.root / self.source.folder

    @property
    def _remedy(self) -> str:
        return f"put its files into {self._folder}, or set root to the folder that holds {self.source.folder}"


def digits(loading: Loading) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """scikit-learn's (x, y) to train and validate on, and those to test on; x (N, 1, 8, 8) from 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.from_numpy(bunch.images).float().unsqueeze(1), torch.from_numpy(bunch.target)
    training, test = cut(y, loading.test_share, loading, "digits", DIGITS.split())
    return (x[training], y[training]), (x[test], y[test])


def cut(y: Tensor, share: float, loading: Loading, dataset: str, class_names: list[str]) -> list[Tensor]:
    """Split off a share of the rows, stratified by class: the other rows, and those split off."""
    names = [f"{dataset}, class {name!r}" for name in class_names]
    return [torch.from_numpy(rows) for rows in split(y.numpy(), names, [share], loading.split_seed)]
