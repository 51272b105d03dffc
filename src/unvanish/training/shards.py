"""The checkpoint of a sharded network: a file as any other, and beside it a folder with the shards of each process.

The file holds all but the sharded tensors. In their place are empty ones of the same shape, and it names the folder
and the SHA-256 of each file there. torch.distributed.checkpoint writes and reads these, as safetensors, in which
nothing can be run. As the file replaces the one before in one step, and only when the shards are on the disk, it and
its shards are there whole or not at all.
"""

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

from unvanish.extras import extra

#: Where a checkpoint's file says which files its shards are in.
SHARDS = "shards"
#: What of a checkpoint is sharded.
_PARTS = ("state_dict", "optimizer_states")


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write the sharded tensors of a checkpoint into a new folder beside its file, and put empty ones in their place.

    Every process calls this. What was kept before stays: ``tidy`` removes it when the new file is in its place.

    Args:
        checkpoint: Whose sharded tensors are replaced.
        path: Where its file will be.

    Raises:
        OSError: They cannot be written.
    """
    rank = dist.get_rank()
    found: list[Any] = [None]
    if rank == 0:
        path.parent.mkdir(exist_ok=True)
        names = (path.with_name(f"{path.stem}.shards{i}") for i in count())
        found = [next(name for name in names if not name.exists())]
    dist.broadcast_object_list(found, 0)
    folder: Path = found[0]
    tensors = {}
    checkpoint |= {part: _copied(checkpoint[part]) for part in _PARTS if part in checkpoint}
    for name, inner, key in _leaves(checkpoint):
        if isinstance(value := inner[key], DTensor):
            tensors[name] = value
            inner[key] = torch.empty(value.shape, dtype=value.dtype, device="meta")
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        first = next(iter(error.failures.values()))[0]
        raise (first if isinstance(first, OSError) else OSError(str(first))) from None
    sums: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sums, {file.name: _sha256(file) for file in folder.glob(f"shard-{rank + 1:05}-*")})
    checkpoint[SHARDS] = {"folder": folder.name, "files": {name: sha for some in sums for name, sha in some.items()}}


def tidy(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Remove the shards of the checkpoints that were there before, and of those that were never finished."""
    for folder in path.parent.glob(f"{path.stem}.shards*"):
        if folder.name != checkpoint.get(SHARDS, {}).get("folder"):
            shutil.rmtree(folder, ignore_errors=True)


def damage(checkpoint: Mapping[str, Any], path: Path) -> str:
    """What is wrong with the shards of a checkpoint, in a few words; empty where nothing is.

    Args:
        checkpoint: What its file holds.
        path: Of its file.
    """
    for file, sha256 in _files(checkpoint, path).items():
        if not file.is_file():
            return f"its shard {file} is missing; the folder has to stay beside it"
        if _sha256(file) != sha256:
            return f"its shard {file} is damaged: its checksum does not match"
    return ""


def read(tensors: dict[str, Any], checkpoint: Mapping[str, Any], path: Path) -> None:
    """Fill tensors, by their names in the checkpoint; where they are sharded each process reads its part of them."""
    folder = next(iter(_files(checkpoint, path))).parent
    alone = not any(isinstance(value, DTensor) for value in tensors.values())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process reads all
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)


def gathered(checkpoint: dict[str, Any], path: Path, parts: tuple[str, ...] = _PARTS) -> dict[str, Any]:
    """A checkpoint with its shards put together again in this process's memory; one without shards as it is.

    Args:
        checkpoint: What its file holds; its empty tensors are replaced.
        path: Of its file.
        parts: What of it is wanted; what is not stays empty.

    """
    if SHARDS not in checkpoint:
        return checkpoint
    extra("safetensors")
    whole = {}
    for name, inner, key in _leaves(checkpoint, parts):
        if isinstance(inner[key], Tensor) and inner[key].is_meta:
            whole[name] = inner[key] = torch.empty(inner[key].shape, dtype=inner[key].dtype)
    read(whole, checkpoint, path)
    return checkpoint


def restore(saved: dict[str, Any], live: Mapping[str, Any], path: Path) -> None:
    """Shard what a checkpoint has as the network is sharded, whether it has shards or is whole. Every process calls it.

    Args:
        saved: What its file holds; the tensors that are sharded here are replaced.
        live: By their names in the checkpoint the network's own tensors, which are like them.
        path: Of its file.

    Raises:
        ValueError: The network has no tensor of such a shape.
    """
    waiting = {}
    for name, inner, key in _leaves(saved):
        value, own = inner[key], live.get(name)
        if not isinstance(value, Tensor):
            continue
        if isinstance(own, DTensor) and own.shape == value.shape:
            if value.is_meta:
                waiting[name] = inner[key] = torch.empty_like(own, dtype=value.dtype)
            else:  # every process has read it, so nothing need be sent
                here = value.to(own.device)
                inner[key] = distribute_tensor(here, own.device_mesh, own.placements, src_data_rank=None)
        elif value.is_meta:
            raise ValueError(f"{path}: its {name} does not fit what is trained here")
    if waiting:
        read(waiting, saved, path)


def _leaves(tree: Any, parts: tuple[str, ...] = _PARTS) -> Iterator[tuple[str, Any, Any]]:
    """The entries of all dicts and lists within some parts: the dotted name, what it is in, and its key there."""
    waiting: list[tuple[str, Any, Any]] = [(part, tree, part) for part in parts if part in tree]
    while waiting:
        name, inner, key = waiting.pop(0)
        value = inner[key]
        if isinstance(value, dict):
            waiting += [(f"{name}.{k}", value, k) for k in value]
        elif isinstance(value, list):
            waiting += [(f"{name}.{i}", value, i) for i in range(len(value))]
        else:
            yield name, inner, key


def _copied(tree: Any) -> Any:
    """The same in dicts and lists of its own: an optimizer's are those that it trains with."""
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [*map(_copied, tree)] if isinstance(tree, list) else tree


def _files(checkpoint: Mapping[str, Any], path: Path) -> dict[Path, str]:
    """The SHA-256 of each file of shards; none where there are no shards."""
    known = checkpoint.get(SHARDS, {"folder": "", "files": {}})
    # A name from a file is no path to elsewhere.
    return {path.parent / Path(known["folder"]).name / Path(name).name: sha for name, sha in known["files"].items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
