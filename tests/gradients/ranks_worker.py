"""One of two ranks that train together, and leaves its records: ``python ranks_worker.py <rank> <folder> <ways>``."""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from recorded import NETWORKS, batches
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from unvanish.gradients import GradientRecorder

RANKS, STEPS, SIZE = 2, 3, 22
#: By the way they are wrapped, networks and numbers of micro-batches.
CASES = {
    "ddp": [("mlp", 1), ("mlp", 3), ("shared", 1), ("unnormalized", 1), ("lstm", 2), ("transformer", 1)],
    "fsdp": [("mlp", 1), ("mlp", 2), ("unnormalized", 1), ("lstm", 1), ("transformer", 1)],
    "fsdp-blocks": [("transformer", 2)],
    "fsdp-replicated": [("mlp", 1)],
    "apart": [("mlp", 1)],  # each rank trains weights of its own
    "own": [("mlp", 1)],  # each rank trains the first layer for itself, as it would a shard
}


def network(name, seed=0):
    torch.manual_seed(seed)
    if name == "unnormalized":
        model = NETWORKS["pooled"][0]()
        model.norm = torch.nn.Identity()
    else:
        model = NETWORKS[name][0]()
    return model.double()


def data(micro_batches):
    """Micro-batches of each step, each to be shared by the ranks."""
    found = batches(torch.float64, STEPS * micro_batches, SIZE)
    return [found[i : i + micro_batches] for i in range(0, len(found), micro_batches)]


def share(tensor, rank):
    return tensor[rank::RANKS]


def wrapped(model, how):
    if how == "apart":
        return model
    if how == "own":
        names = [name for name, _ in model.named_parameters()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names[:1])
        with torch.no_grad():
            next(model.parameters()).mul_(1 + dist.get_rank())
    if how in ("ddp", "own"):
        return DistributedDataParallel(model, find_unused_parameters=hasattr(model, "unused"))
    if how == "fsdp-blocks":
        for layer in model.encoder.layers:
            fully_shard(layer)
    if how == "fsdp-replicated":
        return fully_shard(model, mesh=init_device_mesh("cpu", (RANKS, 1), mesh_dim_names=("replicate", "shard")))
    return fully_shard(model)


def train(rank, how, name, micro_batches):
    inner = network(name, rank if how == "apart" else 0)
    model = wrapped(inner, how)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    group = dist.group.WORLD if how == "apart" else None
    with GradientRecorder(model, every_n_steps=1, process_group=group) as recorder:
        for step, parts in enumerate(data(micro_batches)):
            optimizer.zero_grad()
            for index, (x, y) in enumerate(parts):
                is_last = index == len(parts) - 1
                with nullcontext() if is_last or how != "ddp" else model.no_sync():
                    (F.cross_entropy(model(share(x, rank)), share(y, rank)) / len(parts)).backward()
            recorder.before_step(step, batch_size=SIZE // RANKS)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            recorder.after_step()
        records = recorder.flush()
    return recorder, records


def main(rank, folder, *ways):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=RANKS)
    found = {}
    for how in ways:
        for case in CASES[how]:
            recorder, records = train(rank, how, *case)
            found[how, *case] = (records, recorder.notes)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
