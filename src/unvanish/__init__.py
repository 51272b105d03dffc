"""Reference neural networks that show where their gradients go, and why a fix works.

The public names are loaded on first use, so that ``import unvanish`` and ``unvanish --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.command.compare.api import compare
    from unvanish.command.trained import load
    from unvanish.data import (
        ArrayFolder,
        Augmentation,
        Description,
        FileRows,
        ImageFolder,
        Images,
        InMemoryData,
        LabelledText,
        Loading,
        MovingDigits,
        Series,
        Splits,
        SyntheticSequence,
        Tabular,
        Text,
    )
    from unvanish.gradients import GradientMonitor, GradientRecorder, diagnose
    from unvanish.networks import CNN, MLP, CompactCNN, Recurrent, Transformer, Wrap, generate
    from unvanish.training import Loss, Optimizer, ReferenceModule, Regularization, Schedule, Training

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
    "networks": (
        "CNN",
        "MLP",
        "CompactCNN",
        "Recurrent",
        "Transformer",
        "Wrap",
        "generate",
    ),
    "training": ("Loss", "Optimizer", "ReferenceModule", "Regularization", "Schedule", "Training"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "CNN",
    "MLP",
    "ArrayFolder",
    "Augmentation",
    "CompactCNN",
    "Description",
    "FileRows",
    "GradientMonitor",
    "GradientRecorder",
    "ImageFolder",
    "Images",
    "InMemoryData",
    "LabelledText",
    "Loading",
    "Loss",
    "MovingDigits",
    "Optimizer",
    "Recurrent",
    "ReferenceModule",
    "Regularization",
    "Schedule",
    "Series",
    "Splits",
    "SyntheticSequence",
    "Tabular",
    "Text",
    "Training",
    "Transformer",
    "Wrap",
    "compare",
    "diagnose",
    "generate",
    "load",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'unvanish' has no attribute {name!r}")
    return getattr(import_module(f"unvanish.{_ROOM_OF[name]}"), name)
