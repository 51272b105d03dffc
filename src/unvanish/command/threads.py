"""Chooses the number of threads that train a network on the CPU, by the size of its operations.

Threads wait for each other at the end of every operation. With small operations a second thread gains nothing, and
if another program runs on the same processors, each wait takes until that program has had its turn.

Shapes: B samples of a batch, T steps, F features of a step.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from unvanish.command.environment import is_number_of_threads_given

#: Floating-point operations of an average operation, for each thread. With nothing else on the machine a second thread
#: was a loss up to 1.7 times this, and 1.2 to 2 times as fast from 2.4 times this on.
WORK_OF_A_THREAD = 2.5e6


class Work(NamedTuple):
    """The work of one forward pass.

    Args:
        flops: Floating-point operations in matrix products and convolutions.
        operations: Number of kernel calls; a fused recurrence counts as one for each time step.
    """

    flops: int
    operations: int


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore the number of threads at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def choose_threads(trainer: L.Trainer, model: nn.Module, data: L.LightningDataModule) -> str:
    """Set fewer threads if the network is too small for all, and return a message; "" if nothing is changed.

    The same network always gets the same number. Nothing is changed if the user has set the number, on an
    accelerator, on several devices, or if the data module has no ``input_shape`` and ``batch_size`` that a copy of
    the network takes.
    """
    available = torch.get_num_threads()
    on_one_cpu = trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1
    shape, size = getattr(data, "input_shape", None), getattr(data, "batch_size", None)
    if available == 1 or is_number_of_threads_given() or not on_one_cpu or shape is None or not isinstance(size, int):
        return ""
    is_tokens = getattr(data, "vocabulary_size", None) is not None
    x = torch.zeros(size, *shape, dtype=torch.long if is_tokens else torch.float32)
    try:
        work = work_of(model, x)
    except Exception:  # another's network; what is wrong with it shows in training, where it is looked for
        return ""
    threads = threads_for(work, available)
    if threads == available:
        return ""
    torch.set_num_threads(threads)
    return f"on {threads} of {available} threads, more would wait for each other; OMP_NUM_THREADS sets another number"


def share_of_threads(jobs: int) -> int:
    """The number of threads for each of ``jobs`` processes, so that together they use no more than one would."""
    available = torch.get_num_threads()
    return available if is_number_of_threads_given() else max(1, available // jobs)


def threads_for(work: Work, available: int) -> int:
    """The number of threads for some work: at least one, at most ``available``."""
    return max(1, min(available, int(work.flops / max(1, work.operations) / WORK_OF_A_THREAD)))


def work_of(model: nn.Module, x: Tensor) -> Work:
    """Count the work of a copy of a network on x (B, ...)."""
    network = copy.deepcopy(model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Operations() as operations:
        network(x)
    return Work(flops.get_total_flops() + operations.fused_flops, operations.number)


@final
class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts kernel calls, and the operations of the fused LSTM, which torch's FLOP counter does not know."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0
        self.fused_flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.number += 1
        if func is torch.ops.aten.mkldnn_rnn_layer.default:
            x, w, u = args[:3]  # (T, B, F), and the weights of x and of h
            self.number += len(x) - 1
            self.fused_flops += 2 * x.shape[0] * x.shape[1] * (w.numel() + u.numel())
        return func(*args, **(kwargs or {}))
