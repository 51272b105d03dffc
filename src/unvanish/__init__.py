"""Reference neural networks that show where their gradients go, and why a fix works.

The public names are loaded on first use, so that ``import unvanish`` and ``unvanish --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.command.compare.api import compare as compare
    from unvanish.command.trained import load as load
    from unvanish.data import ArrayFolder as ArrayFolder
    from unvanish.data import Augmentation as Augmentation
    from unvanish.data import Description as Description
    from unvanish.data import FileRows as FileRows
    from unvanish.data import ImageFolder as ImageFolder
    from unvanish.data import Images as Images
    from unvanish.data import InMemoryData as InMemoryData
    from unvanish.data import LabelledText as LabelledText
    from unvanish.data import Loading as Loading
    from unvanish.data import MovingDigits as MovingDigits
    from unvanish.data import Series as Series
    from unvanish.data import Splits as Splits
    from unvanish.data import SyntheticSequence as SyntheticSequence
    from unvanish.data import Tabular as Tabular
    from unvanish.data import Text as Text
    from unvanish.gradients import GradientMonitor as GradientMonitor
    from unvanish.gradients import GradientRecorder as GradientRecorder
    from unvanish.gradients import diagnose as diagnose
    from unvanish.networks import *  # noqa: F403
    from unvanish.training import *  # noqa: F403

__version__ = "0.1.0"

_ROOMS = {
    "command.compare.api": ("compare",),
    "command.trained": ("load",),
    "data": (
        "ArrayFolder",
        "Augmentation",
        "Description",
        "FileRows",
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
    ),
    "gradients": ("GradientMonitor", "GradientRecorder", "diagnose"),
    "networks": ("CNN", "MLP", "CompactCNN", "Recurrent", "Transformer", "Wrap", "generate"),
    "training": ("Loss", "Optimizer", "ReferenceModule", "Regularization", "Schedule", "Training"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = list(_ROOM_OF)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'unvanish' has no attribute {name!r}")
    return getattr(import_module(f"unvanish.{_ROOM_OF[name]}"), name)
