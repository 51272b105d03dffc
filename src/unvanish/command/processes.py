"""Which of a run's processes this is: Lightning, torchrun or SLURM, whichever has started it, says so."""

import os
import time
from datetime import timedelta

#: Of this process among all; on its machine; of its machine among all, as Lightning and as torchrun call it.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
#: Seconds that the processes of a broken run are given to say that they are there.
_PATIENCE = 2.0


def is_first() -> bool:
    """Whether this process is a run's first or only one, which alone writes and speaks."""
    return not any(_number(name) for name in _RANKS)


def started_already() -> dict[str, int]:
    """The trainer's ``devices`` and ``num_nodes`` where all processes are there; nothing where it is to start them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        on_machine = _number("LOCAL_WORLD_SIZE") or 1
        return {"devices": on_machine, "num_nodes": _number("WORLD_SIZE") // on_machine}
    # In a shell that SLURM has opened nothing but this process is started; Lightning goes by the same names.
    if (tasks := _number("SLURM_NTASKS")) > 1 and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = _number("SLURM_NNODES") or 1
        return {"devices": _number("SLURM_NTASKS_PER_NODE") or tasks // nodes, "num_nodes": nodes}
    return {}


def lost() -> tuple[list[int], bool]:
    """After an operation between processes has failed: the ranks that are gone, and whether this one is to say so.

    Each process that is left says so in the store by which all found each other; its host is the first process, or
    torchrun, so that without an answer the first is gone, and whoever is left says so: no one knows of the others.
    """
    import torch.distributed as dist

    rank, ranks = dist.get_rank(), range(dist.get_world_size())
    address, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")
    try:
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=_PATIENCE))  # type: ignore[attr-defined]
        store.set(f"unvanish/is-there/{rank}", "1")
        time.sleep(_PATIENCE)
        there = {other for other in ranks if store.check([f"unvanish/is-there/{other}"])}
    except (RuntimeError, ValueError):  # of the kinds that the store has
        return [0], True
    return [other for other in ranks if other not in there], rank == min(there)


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
