"""The states of all random generators of a process, in what a checkpoint may hold."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

States = dict[str, Any]


def torch_states() -> States:
    """Those that the network draws from: the CPU's and each CUDA device's."""
    # Whether one is there takes half a millisecond to ask; one that is in use has been initialized.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def other_states() -> States:
    """Those of Python and NumPy."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": (version, torch.tensor(numbers), gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
    }


def gathered(states: States) -> list[States]:
    """Of each rank its own; all of them have to ask."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [states]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, states)
    return found


def restore(states: States) -> None:
    """Set every generator; of CUDA devices as many as there are."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    cuda: list[Tensor] = states["cuda"]
    for device, state in enumerate(cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)
