"""A checkpoint's file: there whole or not at all, and known to be what was written.

It is written beside its place, brought to the disk, and renamed over the one before. The zip archive that torch makes
ends with a comment, the SHA-256 of all before it; torch loads such a file as any other.
"""

import hashlib
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, final

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from unvanish.command.errors import WrongInputError, as_wrong_input, one_line
from unvanish.training.shards import damage, gathered, tidy

_MARK = b"unvanish sha256 "
_COMMENT = len(_MARK) + 64
_BLOCK = 2**20
#: An archive's last field is the length of its comment; this is that of none.
_NO_COMMENT = b"\0\0"


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Keep a checkpoint, in the place of the one before only when it is on the disk.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            hashed = _Hashed(file)
            try:
                torch.save(checkpoint, hashed)  # type: ignore[arg-type]
            except RuntimeError as error:  # what torch makes of a disk that is full
                raise hashed.error or error from None
            comment = _MARK + hashed.sha256.hexdigest().encode()
            file.seek(-len(_NO_COMMENT), os.SEEK_END)
            file.write(struct.pack("<H", len(comment)) + comment)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    with suppress(OSError):  # not every file system lets a folder be synchronised
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU; nothing that it holds is run.

    Raises:
        WrongInputError: it is not there, damaged, or none.
    """
    try:
        if has_checksum(path) is False:
            raise WrongInputError(f"{path} is damaged: its checksum does not match")
        with warnings.catch_warnings():
            # Of a protocol of pickle other than its own torch warns; what it does not know of that, it refuses.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            warnings.filterwarnings("ignore", "Validating sparse tensor")
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WrongInputError(f"no checkpoint at {path}: {error.strerror}") from error
    except (
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise WrongInputError(f"{path} is not a checkpoint that can be loaded: {_reason(error)}") from error
    if not isinstance(checkpoint, dict):
        raise WrongInputError(f"{path} is not a checkpoint: it holds {type(checkpoint).__name__}, not a dict")
    return checkpoint


def has_checksum(path: Path) -> bool | None:
    """Whether a file is what was written; None where it does not tell, as it is not one of ours.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = size - _COMMENT - len(_NO_COMMENT)
        file.seek(max(start, 0))
        length, comment = file.read(len(_NO_COMMENT)), file.read()
        if start < 0 or not comment.startswith(_MARK):
            return None
        sha256, rest = hashlib.sha256(), start
        file.seek(0)
        while rest:
            block = file.read(min(rest, _BLOCK))
            sha256.update(block)
            rest -= len(block)
        sha256.update(_NO_COMMENT)
        return length == struct.pack("<H", _COMMENT) and comment == _MARK + sha256.hexdigest().encode()


def newest_good(folder: Path, but: Path) -> Path | None:
    """Of the checkpoints in a folder the newest that is whole, other than one."""
    for path in sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(OSError, zipfile.BadZipFile, WrongInputError):
            if path != but and has_checksum(path) and not damage(read(path), path):
                return path
    return None


@final
class CheckpointFiles(TorchCheckpointIO):
    """How a trainer writes its checkpoints and reads them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See ``write``; the shards of the one before are no longer needed."""
        target = Path(path)
        target.parent.mkdir(exist_ok=True)  # not the run's folder: one that is gone is to be noticed
        write(checkpoint, target)
        tidy(checkpoint, target)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint, and then its shards."""
        super().remove_checkpoint(path)
        tidy({}, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See ``read``; of a sharded network, its shards put together."""
        with as_wrong_input():
            return gathered(read(Path(path)), Path(path))


@final
class _Hashed:
    """A file that knows the SHA-256 of what was written to it, and the error that kept it from being so."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, block: bytes) -> int:
        try:
            self.sha256.update(block)
            return self.file.write(block)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _reason(error: Exception) -> str:
    """One short sentence; torch's own advises to load what is not safe, and colours it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", one_line(error))
    if unsafe := re.search(r"GLOBAL (\S+)", text):
        return f"it holds {unsafe[1]}, which is not plain data"
    if isinstance(error, pickle.UnpicklingError) or "archive" in text or "PytorchStream" in text:
        return "it is cut, damaged, or of another kind"
    return re.split(r"(?<=[a-z)'])\. ", text)[0][:200] or type(error).__name__
