"""Which splits a data module has."""

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

from unvanish.data import InMemoryData


def has_validation_split(data: L.LightningDataModule) -> bool:
    """Whether a data module has a validation split."""
    if isinstance(data, InMemoryData):
        return bool(data.splits.validation)
    return is_overridden("val_dataloader", data)


def has_test_split(data: L.LightningDataModule) -> bool:
    """Whether a data module has a test split."""
    if isinstance(data, InMemoryData):
        return bool(data.splits.test)
    return is_overridden("test_dataloader", data)
