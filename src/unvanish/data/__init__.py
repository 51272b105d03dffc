"""Data sets, one file a kind of data, and a loader that cuts them into batches.

Each is imported when it is first used: images wait for no table, and no data for the libraries of another.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.data.array_folder import ArrayFolder as ArrayFolder
    from unvanish.data.augmentation import Augmentation as Augmentation
    from unvanish.data.clips import MovingDigits as MovingDigits
    from unvanish.data.file_rows import FileRows as FileRows
    from unvanish.data.folders import ImageFolder as ImageFolder
    from unvanish.data.images import Images as Images
    from unvanish.data.labelled_text import LabelledText as LabelledText
    from unvanish.data.loader import BatchLoader as BatchLoader
    from unvanish.data.loading import Description as Description
    from unvanish.data.loading import Loading as Loading
    from unvanish.data.loading import Splits as Splits
    from unvanish.data.module import InMemoryData as InMemoryData
    from unvanish.data.series import Series as Series
    from unvanish.data.synthetic import SyntheticSequence as SyntheticSequence
    from unvanish.data.tabular import Tabular as Tabular
    from unvanish.data.text import Text as Text

_MODULE_OF = {
    "ArrayFolder": "array_folder",
    "Augmentation": "augmentation",
    "BatchLoader": "loader",
    "Description": "loading",
    "FileRows": "file_rows",
    "ImageFolder": "folders",
    "Images": "images",
    "InMemoryData": "module",
    "LabelledText": "labelled_text",
    "Loading": "loading",
    "MovingDigits": "clips",
    "Series": "series",
    "Splits": "loading",
    "SyntheticSequence": "synthetic",
    "Tabular": "tabular",
    "Text": "text",
}

__all__ = list(_MODULE_OF)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'unvanish.data' has no attribute {name!r}")
    return getattr(import_module(f"unvanish.data.{_MODULE_OF[name]}"), name)
