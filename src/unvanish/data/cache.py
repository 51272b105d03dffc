"""Files decoded into bytes once, and kept in memory or in a file.

Shapes: N files, M of them readable; each decodes into (C, ...), C channels and any other axes.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.file_rows import FileRows
from unvanish.extras import MissingExtraError

logger = logging.getLogger(__name__)

#: Reads a sample, which is a file or a folder, as uint8 (C, ...).
Decoder = Callable[[Path], NDArray[np.uint8]]

CACHES = ("memory", "file")
MEMORY_SHARE = 0.5  # of the machine's, at most
FORMAT = 3  # of cached files; to be raised when a decoder gives other pixels than before
STAMPED = 4096  # bytes that are read of a file at its head, in its middle and at its tail
WHOLE = 2**30  # bytes of a cache up to which all are checked, in less than a second
CHUNK = 1024  # files that wait to be decoded, or decoded to be kept


class Decoded(NamedTuple):
    """The result of decoding files.

    Args:
        files: (M,) which files can be read.
        sums: int64 (M, 2, C), each one's sum of pixels and sum of squared pixels.
        refused: Why each of the other files cannot be read.
        pixels: uint8 (M, C, ...).
    """

    files: NDArray[np.int64]
    sums: NDArray[np.int64]
    refused: dict[int, str]
    pixels: Tensor | FileRows = torch.empty(0, dtype=torch.uint8)


def decode(files: Sequence[Path], decoder: Decoder, shape: tuple[int, ...], *, cache: str, folder: Path) -> Decoded:
    """Decode every file once, on all processors.

    Args:
        files: What to decode; a folder of files can be one sample.
        decoder: Decodes a sample; its ``repr`` must identify it.
        shape: The shape of a decoded sample.
        cache: memory; or file, which keeps the pixels in ``folder`` for the next call with the same files.
        folder: Where cached files are kept.

    Raises:
        ValueError: The data do not fit in memory, or the cache cannot be written.
    """
    size = len(files) * int(np.prod(shape))
    if cache == "file":
        folder = folder.expanduser().absolute()
        return _in_file(files, decoder, shape, folder / f"{_key(files, decoder)}.npz")
    if size > MEMORY_SHARE * _memory():
        raise ValueError(
            f"{len(files)} files of {shape} take {size / 2**30:.1f} GiB, more than half of the memory; cache=file "
            "keeps them on disk"
        )
    pixels = torch.empty(len(files), *shape, dtype=torch.uint8)
    found = _scan(files, decoder, lambda row, sample: pixels[row].copy_(torch.from_numpy(sample)))
    return found._replace(pixels=pixels[: len(found.files)])


def _scan(files: Sequence[Path], decoder: Decoder, keep: Callable[[int, NDArray[np.uint8]], object]) -> Decoded:
    logger.info("decoding %d files", len(files))
    sums: list[NDArray[np.int64]] = []
    refused = {}
    # A chunk at a time, so that a slow disk behind `keep` does not let decoded files pile up.
    with ThreadPoolExecutor(_processors()) as pool:
        for start in range(0, len(files), CHUNK):
            results = pool.map(partial(_try, decoder), files[start : start + CHUNK])
            for index, result in enumerate(results, start):
                if isinstance(result, str):
                    refused[index] = result
                else:
                    sample, sum_of_sample = result
                    keep(len(sums), sample)
                    sums.append(sum_of_sample)
    readable = np.setdiff1d(np.arange(len(files)), list(refused))
    return Decoded(readable, np.array(sums), refused)


def _try(decoder: Decoder, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | str:
    """A sample with its sums, or the reason why it cannot be read."""
    try:
        sample = decoder(path)
    except MissingExtraError:
        raise
    except Exception as error:  # Pillow and FFmpeg raise many kinds
        return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    values = sample.reshape(len(sample), -1).astype(np.int64)
    return sample, np.stack([values.sum(axis=1), np.square(values).sum(axis=1)])


def _in_file(files: Sequence[Path], decoder: Decoder, shape: tuple[int, ...], target: Path) -> Decoded:
    """Pixels that are read from the disk as they are used; ``target`` holds the rest, and is written last."""
    bytes_file = target.with_suffix(".bytes")
    stored = _stored(target, bytes_file, len(files), shape)
    if stored is None:
        partial_file = target.with_suffix(f".{os.getpid()}.partial")  # ranks may write side by side
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial_file.open("wb") as file:
                found = _scan(files, decoder, lambda row, sample: file.write(sample.tobytes()))
            partial_file.replace(bytes_file)
            with partial_file.open("wb") as file:
                reasons = list(found.refused.values())
                arrays: dict[str, Any] = {"refused": list(found.refused), "reasons": reasons}
                np.savez(file, files=found.files, sums=found.sums, stamp=_stamp(bytes_file, WHOLE), **arrays)
            partial_file.replace(target)
        except OSError as error:  # a file that cannot be read is not among them
            reason = error.strerror or str(error)
            raise ValueError(f"cannot write the cache {bytes_file}: {reason}; see cache and cache_folder") from error
        finally:
            with suppress(OSError):
                partial_file.unlink()
        stored = found
    if not len(stored.files):
        return stored._replace(pixels=torch.empty(0, *shape, dtype=torch.uint8))
    pixels = FileRows(bytes_file, np.dtype(np.uint8), (len(stored.files), *shape))
    return stored._replace(pixels=pixels)


def _stored(target: Path, bytes_file: Path, count: int, shape: tuple[int, ...]) -> Decoded | None:
    """The content of a cache; None if there is none, or if it is truncated or of other files, which is logged."""
    if not (target.is_file() and bytes_file.is_file()):
        return None
    try:
        with target.open("rb") as file, np.load(file) as stored:
            refused = dict(zip(stored["refused"].tolist(), stored["reasons"].tolist(), strict=True))
            found = Decoded(stored["files"], stored["sums"], refused)
            whole = stored["stamp"] == _stamp(bytes_file, WHOLE)
    except Exception as error:  # numpy and zipfile raise many kinds
        whole, found = False, None
        logger.debug("%s: %s", target, error)
    if found is not None and whole:
        size, files = bytes_file.stat().st_size, {*found.files.tolist(), *found.refused}
        whole = size == len(found.files) * int(np.prod(shape)) and files == set(range(count))
        whole = whole and found.sums.shape == (len(found.files), 2, shape[0])
    if not whole:
        logger.warning("the cache %s is damaged and will be rebuilt", target)
    return found if whole else None


def _stamp(path: Path, whole: int = 0) -> str:
    """A hash of the size and the content of a file; of more than ``whole`` bytes only a part is read.

    This part is at the head, in the middle and at the end.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        for start in (0, size // 2, max(0, size - STAMPED)):
            file.seek(start)
            digest.update(file.read(STAMPED))
    return digest.hexdigest()


def _key(files: Sequence[Path], decoder: Decoder) -> str:
    """A hash of the files, their order, times and contents (see ``_stamp``), and of the decoder."""
    stamps = []
    for path in files:
        parts = sorted(path.iterdir()) if path.is_dir() else [path]
        known = [(part.name, part.stat().st_mtime_ns, _stamp(part) if part.is_file() else "") for part in parts]
        stamps.append((str(path.absolute()), known))
    return hashlib.sha256(repr((FORMAT, decoder, stamps)).encode()).hexdigest()[:32]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """Memory of this machine or container in bytes; 8 GiB if that is not known."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            sizes.append(int(Path(limit).read_text()))
    return min(sizes, default=2**33)
