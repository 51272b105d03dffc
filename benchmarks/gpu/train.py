"""Every family trains in each precision, with channels last, and compiled."""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch

from benchmarks.gpu.families import FAMILIES, Family
from benchmarks.gpu.page import Check, NotHereError, Section, Settings
from unvanish import GradientRecorder

_COLUMNS = ["loss, first", "loss, last", "samples/s", "peak MiB", "gradient over fp32's", "delta over fp32's"]


class Mode(NamedTuple):
    """A way to train: the type of autocast, and what else is done.

    Args:
        autocast: None is float32 throughout.
        is_scaled: Whether a GradScaler multiplies the loss.
        channels_last: Whether network and batch are laid out so.
        is_compiled: Whether torch.compile is put around it.
        tolerance: How far the first gradient's norm may be from that of float32, relatively.
    """

    autocast: torch.dtype | None = None
    is_scaled: bool = False
    channels_last: bool = False
    is_compiled: bool = False
    tolerance: float = 1e-2


MODES = {
    "fp32": Mode(),
    "bf16-mixed": Mode(torch.bfloat16, tolerance=0.1),
    "fp16-mixed": Mode(torch.float16, is_scaled=True, tolerance=0.05),
    "channels_last": Mode(channels_last=True),
    "compiled": Mode(is_compiled=True),
}


def checks(settings: Settings) -> Iterator[Check]:
    first_norms: dict[tuple[str, str], float] = {}
    for name, mode in MODES.items():
        for title, family in FAMILIES.items():
            if family.is_convolutional or not mode.channels_last:
                yield f"{title}, {name}", partial(_train, title, family, mode, first_norms, settings)


def _train(
    title: str, family: Family, mode: Mode, first_norms: dict[tuple[str, str], float], settings: Settings
) -> list[str]:
    """Memorizes a batch, recorded with the default cadence."""
    if not settings.is_cuda and (mode.autocast is torch.float16 or mode.is_compiled):
        raise NotHereError
    has_bfloat16 = settings.is_cuda or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if mode.autocast is torch.bfloat16 and "lstm" in title and not has_bfloat16:  # oneDNN has others, but not this
        raise NotHereError
    _forget_peak(settings)
    model, (x, y) = family.model(settings), family.batch(settings)
    if mode.channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    call = torch.compile(model) if mode.is_compiled else model
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    # Of the usual first scale, 2^16, some networks' gradients overflow.
    scaler = torch.amp.GradScaler(settings.device.type, init_scale=2.0**10, enabled=mode.is_scaled)
    autocast = torch.autocast(settings.device.type, mode.autocast) if mode.autocast else nullcontext()
    warm, count = (1, 5) if settings.quick else (5, 60)
    losses, start = [], 0.0
    with GradientRecorder(call) as recorder:
        for step in range(warm + count):
            if step == warm:
                start = _now(settings)
            optimizer.zero_grad()
            with autocast:
                loss = model.training_loss(call(x), y)
            scale = scaler.get_scale()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            recorder.before_step(step, loss_scale=scale)
            scaler.step(optimizer)
            scaler.update()
            recorder.after_step()
            losses.append(loss.detach())
        seconds = _now(settings) - start
        first_record, *_ = recorder.flush()
    first, last = losses[0].item(), losses[-1].item()
    assert all(math.isfinite(loss.item()) for loss in losses), f"a loss is not finite; first {first}, last {last}"
    assert last < (0.99 if settings.quick else 0.8) * first, f"the loss went from {first:.4g} to {last:.4g} only"
    ratios = []
    for quantity in ("gradient_norm", "delta_norm"):
        norm = math.hypot(*first_record.values[quantity].values())
        ratios.append(norm / first_norms.setdefault((title, quantity), norm))
        assert abs(ratios[-1] - 1) < mode.tolerance, f"{quantity} is {ratios[-1]:.4f} times that of fp32"
    peak = f"{torch.cuda.max_memory_allocated() / 2**20:.0f}" if settings.is_cuda else ""
    return [f"{first:.3f}", f"{last:.3f}", f"{count * len(x) / seconds:,.0f}", peak, *(f"{r:.4f}" for r in ratios)]


def _now(settings: Settings) -> float:
    if settings.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak(settings: Settings) -> None:
    if settings.is_cuda:
        torch.compiler.reset()
        gc.collect()  # what is left of the last network
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


SECTION = Section(
    "Every family trains",
    "Each memorizes one batch with Adam: the loss is finite and falls by a fifth at least. A recorder is "
    "there with its default cadence, also in the time and the memory. In the first step the norms of dL/dW and of "
    "delta over all layers are near those of float32, whatever the precision.",
    _COLUMNS,
    checks,
)
