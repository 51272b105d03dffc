"""How a figure is judged, and what several rows measure alike."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, geometric_mean

import torch
from torch import Tensor, nn

from benchmarks.papers.row import Figure, Settings
from unvanish.gradients import diagnose


def near(what: str, exact: float, ours: Sequence[float], tolerance: float) -> Figure:
    """A figure whose mean over seeds is to be within ``tolerance`` of ``exact``."""
    expected = f"{exact:.5g} +- {tolerance:.3g}"
    return Figure(what, expected, ours, abs(fmean(ours) - exact) <= tolerance)


def near_factor(what: str, exact: float, ours: Sequence[float], share: float) -> Figure:
    """A figure that is a product over layers: its geometric mean is to be within ``share`` of ``exact``."""
    expected = f"{exact:.5g} +- {100 * share:.2g} %"
    return Figure(what, expected, ours, abs(geometric_mean(ours) / exact - 1) <= share)


def above(what: str, limit: float, ours: Sequence[float], why: str = "") -> Figure:
    """A figure of which every seed is to be above ``limit``."""
    return Figure(what, f"> {limit:g}{why}", ours, all(value > limit for value in ours))


def below(what: str, limit: float, ours: Sequence[float], why: str = "") -> Figure:
    """A figure of which every seed is to be below ``limit``."""
    return Figure(what, f"< {limit:g}{why}", ours, all(value < limit for value in ours))


def seeds(settings: Settings) -> Iterator[int]:
    """Each seed, with torch's generator set to it."""
    for seed in range(settings.seeds):
        torch.manual_seed(seed)
        yield seed


def deltas(model: nn.Module, x: Tensor) -> list[float]:
    """|dL/dz| of each layer from the first to the last, for the random linear loss L = sum(model(x) V), V ~ N(0, 1)."""
    v = torch.randn_like(model(x))
    diagnosis = diagnose(model, (x, v), lambda out, v: (out * v).sum())
    return list(diagnosis.record.values["delta_norm"].values())


def factor(norms: Sequence[float], first: int, last: int) -> float:
    """The geometric mean of the factors by which ``norms`` grow from layer ``last`` back to layer ``first``."""
    return math.exp(math.log(norms[first] / norms[last]) / (last - first))
