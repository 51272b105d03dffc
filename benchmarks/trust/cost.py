"""What it takes to write a checkpoint, beside Lightning's own way, and to have a run kept at all."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _atomic_save

from unvanish.command.checkpoint_file import has_checksum, write

SIZES = (1, 10, 100)


def seconds_to_write(megabytes: int, folder: Path, times: int = 5) -> dict[str, float]:
    """Medians: our way, which waits for the disk, Lightning's, which does not, and a look at the checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint: dict[str, Any] = {"state_dict": {"weight": torch.randn(megabytes * 2**20 // 4)}}
    path = folder / "timed.ckpt"
    return {
        "ours": _median(lambda: write(checkpoint, path), times),
        "check": _median(lambda: has_checksum(path), times),
        "lightning": _median(lambda: _atomic_save(checkpoint, path), times),
    }


def _median(work: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return median(found)
