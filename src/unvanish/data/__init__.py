"""Data sets that fit into memory, and a loader that cuts them into batches."""

from unvanish.data.images import Images
from unvanish.data.loader import BatchLoader
from unvanish.data.module import InMemoryData
from unvanish.data.tabular import Tabular

__all__ = ["BatchLoader", "Images", "InMemoryData", "Tabular"]
