"""Data that lie in files: images under a root folder, tables in git directories of the repositories they are from."""

import os
import pickle
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.cases import NotHereError

Images = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@lru_cache(maxsize=2)
def mnist(root: Path) -> Images:
    """Images (n, 1, 28, 28) from 0 to 255 and digits (n,), of the train and the test part."""
    folder = root / "MNIST/raw"
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    paths = [folder / f"{name}-ubyte" for name in names]
    if not all(path.exists() for path in paths):
        raise NotHereError("MNIST is not under --root")
    raw = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
    x, y, xv, yv = (part[8:] if index % 2 else part[16:].reshape(-1, 1, 28, 28) for index, part in enumerate(raw))
    return x, y, xv, yv


@lru_cache(maxsize=1)
def cifar10(root: Path) -> Images:
    """Images (n, 3, 32, 32) from 0 to 255 and classes (n,), of the train and the test part."""
    folder = root / "cifar-10-batches-py"
    if not folder.exists():
        raise NotHereError("CIFAR-10 is not under --root")
    batches = [
        pickle.loads((folder / name).read_bytes(), encoding="latin1")
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    ]
    x = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    y = np.concatenate([batch["labels"] for batch in batches])
    cut = len(x) - len(batches[-1]["labels"])
    return x[:cut], y[:cut], x[cut:], y[cut:]


def git_file(repository: str, path: str) -> str:
    """A file of a repository, from its git directory, CASES_GIT/<owner>+<name>/repo."""
    folder = os.environ.get("CASES_GIT")
    if not folder:
        raise NotHereError("its table is in another repository, and CASES_GIT names no folder of git directories")
    command = ["git", f"--git-dir={folder}/{repository}/repo", "show", f"HEAD:{path}"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise NotHereError(f"{repository} is not under CASES_GIT, or has no {path}")
    return done.stdout.decode("utf-8-sig").replace("\ufeff", "")
