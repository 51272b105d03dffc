"""Says in words what the gradient does on its way back through the layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Below this share of the last layer's gradient, the first layer's has vanished; above its inverse, it has exploded.
VANISHED = 1e-3

_CAUSE = {
    "healthy": "the gradient reaches every layer.",
    "vanishing": "each layer multiplies the gradient by its weights and by its activation's derivative; where that "
    "product is below one, the gradient shrinks with depth and the early layers barely change.",
    "exploding": "each layer multiplies the gradient by its weights and by its activation's derivative; where that "
    "product is above one, the gradient grows with depth and the early layers are thrown about.",
    "dead": "a layer that returns a constant, such as ReLU units that are never positive, passes no gradient on.",
    "nan": "a value has left the range of its number format, often after a learning rate that was too high.",
    "unknown": "the gradient of fewer than two layers was seen.",
}
_FIXES = {
    "healthy": [],
    "vanishing": [
        "ReLU with He initialization",
        "Xavier initialization with tanh",
        "batch or layer normalization",
        "residual connections",
    ],
    "exploding": ["He or Xavier initialization", "layer normalization", "gradient clipping", "a lower learning rate"],
    "dead": ["a lower learning rate", "leaky ReLU", "He initialization"],
    "nan": ["a lower learning rate", "gradient clipping", "bf16 instead of fp16"],
    "unknown": [],
}


@dataclass(frozen=True)
class Verdict:
    """What the gradient does between the last layer and the first.

    Args:
        status: healthy, vanishing, exploding, dead, nan or unknown.
        first_over_last: |delta| of the first layer over |delta| of the last.
        factor_per_layer: The geometric mean of the factors by which |delta| changes from a layer to the one before it.
        evidence: The layers and the numbers on which the status rests.
    """

    status: str
    first_over_last: float
    factor_per_layer: float
    evidence: str

    @property
    def cause(self) -> str:
        """Why this happens."""
        return _CAUSE[self.status]

    @property
    def fixes(self) -> list[str]:
        """What to try against it."""
        return _FIXES[self.status]

    def __str__(self) -> str:
        fixes = f" Try {', '.join(self.fixes[:-1])} or {self.fixes[-1]}." if self.fixes else ""
        return f"{self.status}: {self.evidence}; {self.cause}{fixes}"


def judge(deltas: Mapping[str, float]) -> Verdict:
    """The verdict on |delta| = |dL/dz| by layer, in the order of the forward pass.

    Norms are compared, not RMS values: He's and Xavier's initializations keep the gradient's norm through a change of
    width, for which the RMS would blame them.
    """
    names = list(deltas)
    if len(names) < 2:
        return Verdict("unknown", math.nan, math.nan, f"{len(names)} layers with a gradient")
    broken = [name for name in names if not math.isfinite(deltas[name])]
    if broken:
        return Verdict("nan", math.nan, math.nan, f"|delta| is {deltas[broken[-1]]} in {broken[-1]}")
    first, last = deltas[names[0]], deltas[names[-1]]
    silent = [index for index, name in enumerate(names) if deltas[name] == 0]
    if silent:
        return _judge_silence(names, list(deltas.values()), silent)
    ratio = first / last
    factor = ratio ** (1 / (len(names) - 1))
    status = "vanishing" if ratio < VANISHED else "exploding" if ratio > 1 / VANISHED else "healthy"
    evidence = (
        f"{names[0]} gets {ratio:.2g} of the gradient that {names[-1]} gets, a factor of {factor:.3g} a layer "
        f"over {len(names)} layers"
    )
    return Verdict(status, ratio, factor, evidence)


def _judge_silence(names: list[str], values: list[float], silent: list[int]) -> Verdict:
    """Where some |delta| is exactly 0: it has shrunk below the smallest number, or a layer has cut it off."""
    deepest, last = silent[-1], values[-1]
    evidence = f"|delta| is exactly 0 in {len(silent)} of {len(names)} layers, the deepest of them {names[deepest]}"
    ratio = math.nan if last == 0 else values[0] / last
    if last == 0 or (edge := values[deepest + 1] / last) >= VANISHED:
        return Verdict("dead", ratio, math.nan, evidence)
    factor = edge ** (1 / (len(names) - 2 - deepest))
    return Verdict("vanishing", ratio, factor, f"{evidence}, after a factor of {factor:.3g} a layer behind it")
