"""Data sets, one file a kind of data, and a loader that cuts them into batches."""

from unvanish.data.augmentation import Augmentation
from unvanish.data.clips import MovingDigits
from unvanish.data.folders import ImageFolder
from unvanish.data.images import Images
from unvanish.data.labelled_text import LabelledText
from unvanish.data.loader import BatchLoader
from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.data.series import Series
from unvanish.data.synthetic import SyntheticSequence
from unvanish.data.tabular import Tabular
from unvanish.data.text import Text

__all__ = [
    "Augmentation",
    "BatchLoader",
    "Description",
    "ImageFolder",
    "Images",
    "InMemoryData",
    "LabelledText",
    "Loading",
    "MovingDigits",
    "Series",
    "Splits",
    "SyntheticSequence",
    "Tabular",
    "Text",
]
