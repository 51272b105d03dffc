"""Says in words what the gradient does on its way back through the layers and through time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unvanish.gradients.missing import listed

#: Below this share of the last layer's gradient, the first layer's has vanished; above its inverse, it has exploded.
VANISHED = 1e-3
#: A network is dead or saturated where half of its units are, on average over the layers that can be, or nearly all
#: units of one layer: then no gradient passes it.
MOST, NEARLY_ALL = 0.5, 0.9
#: A weight with a smaller norm than the first passes less than that share of the gradient on, whatever its shape; it
#: leaves zero where a step moves it by more than the second.
NEAR_ZERO, LEAVING = 0.1, 0.01


class _Advice(NamedTuple):
    cause: str
    fixes: list[str]


_ADVICE = {
    "healthy": _Advice("the gradient reaches every layer that was looked at.", []),
    "vanishing": _Advice(
        "each layer multiplies the gradient by its weights and by its activation's derivative; where that product is "
        "below one, the gradient shrinks with depth and the early layers barely change.",
        [
            "ReLU with He initialization",
            "Xavier initialization with tanh",
            "batch or layer normalization",
            "residual connections",
        ],
    ),
    "exploding": _Advice(
        "each layer multiplies the gradient by its weights and by its activation's derivative; where that product is "
        "above one, the gradient grows with depth and the early layers are thrown about.",
        ["He or Xavier initialization", "layer normalization", "gradient clipping", "a lower learning rate"],
    ),
    "vanishing through time": _Advice(
        "each time step multiplies the gradient by the recurrent weights and by the activation's derivative; where "
        "that product is below one, what came early is not learnt from.",
        [
            "LSTM or GRU cells in place of tanh ones",
            "a forget-gate bias of 1",
            "orthogonal recurrent weights",
            "shorter sequences",
        ],
    ),
    "exploding through time": _Advice(
        "each time step multiplies the gradient by the recurrent weights and by the activation's derivative; where "
        "that product is above one, early steps throw the weights about.",
        ["gradient clipping", "LSTM or GRU cells in place of tanh ones", "orthogonal recurrent weights"],
    ),
    "dead": _Advice(
        "a unit that returns a constant, such as a ReLU unit that is never positive, passes no gradient on, and learns "
        "nothing any more.",
        ["a lower learning rate", "leaky ReLU", "He initialization", "batch normalization"],
    ),
    "saturated": _Advice(
        "tanh near -1 or 1, and sigmoid near 0 or 1, are flat: their derivative is almost zero, and so is the gradient "
        "that they pass on.",
        ["Xavier initialization", "standardised inputs", "batch or layer normalization", "ReLU with He initialization"],
    ),
    "disconnected": _Advice(
        "something on the way passes no gradient on: detach, argmax, rounding, a copy to numpy, or torch.no_grad.",
        ["a loss of what the network returns itself", "a differentiable step in place of the one that cuts"],
    ),
    "nan": _Advice(
        "a value has left the range of its number format, often after a learning rate that was too high.",
        ["a lower learning rate", "gradient clipping", "bf16 instead of fp16"],
    ),
    "unknown": _Advice("the gradient of fewer than two layers was seen.", []),
}


STATUSES = [name for name in _ADVICE if "through" not in name]
_GRAVEST = ["nan", "disconnected", "dead", "saturated", "exploding", "vanishing", "unknown", "healthy"]


@dataclass(frozen=True)
class Verdict:
    """What the gradient does between the last layer and the first.

    Args:
        status: healthy, vanishing, exploding, disconnected, dead, saturated, nan or unknown.
        first_over_last: |delta| of the first layer over |delta| of the last.
        factor_per_layer: The geometric mean of the factors by which |delta| changes from a layer to the one before it.
        evidence: The layers and the numbers on which the status rests.
        through_time: Whether it is time, and not depth, through which the gradient vanishes or explodes.
        where: Which of several towers or optimizers this is about; empty where there is one.
        untrained: What does not train although it seems to, a sentence each.
    """

    status: str
    first_over_last: float
    factor_per_layer: float
    evidence: str
    through_time: bool = False
    where: str = ""
    untrained: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The status, and that it is through time, where it is."""
        return f"{self.status} through time" if self.through_time else self.status

    @property
    def _advice(self) -> _Advice:
        return _ADVICE[self.name]

    @property
    def cause(self) -> str:
        """Why this happens."""
        if self.untrained and self.status == "healthy":
            return f"but not all that seems to train does: {', '.join(self.untrained)}."
        return self._advice.cause

    @property
    def fixes(self) -> list[str]:
        """What to try against it."""
        return self._advice.fixes

    def __str__(self) -> str:
        fixes = f" Try {', '.join(self.fixes[:-1])} or {self.fixes[-1]}." if self.fixes else ""
        where = f"in {self.where}, " if self.where else ""
        return f"{self.name}: {where}{self.evidence}; {self.cause}{fixes}"

    @property
    def gravity(self) -> int:
        """What is nearest to the cause is gravest; 0 for a healthy one."""
        return len(_GRAVEST) - _GRAVEST.index(self.status)


def judge(
    deltas: Mapping[str, float],
    *,
    dead: Mapping[str, float] | None = None,
    saturated: Mapping[str, float] | None = None,
    through_time: Mapping[str, Mapping[int, float]] | None = None,
    weights: Mapping[str, float] | None = None,
    updates: Mapping[str, float] | None = None,
    unreached: Sequence[str] = (),
) -> Verdict:
    """The verdict on |delta| = |dL/dz| by layer, in the order of the forward pass.

    Norms are compared, not RMS values: He's and Xavier's initializations keep the gradient's norm through a change of
    width, for which the RMS would blame them. What is nearest to the cause is named first: a NaN, then units that are
    dead or saturated, then the factor through depth, then that through time.

    Args:
        deltas: |delta| of each layer in line, or the gradient of the residual stream.
        dead: The share of units that are never positive, of the layers with a ReLU.
        saturated: The share of values at their bound, of the layers with a tanh or a sigmoid.
        through_time: |dL/dh_t| by t, of recurrent layers.
        weights: |W| of each layer: what starts at zero by design passes nothing on before its first step.
        updates: The update of each layer over |W|: what has left zero may be near it still.
        unreached: Layers that were run, but have no way to the loss.
    """
    names, values = list(deltas), list(deltas.values())
    if broken := [name for name in names if not math.isfinite(deltas[name])]:
        return Verdict("nan", math.nan, math.nan, f"the gradient is {deltas[broken[-1]]} in {broken[-1]}")
    ratio = values[0] / values[-1] if values and values[-1] else math.nan
    factor = math.nan if 0 in values or len(names) < 2 else ratio ** (1 / (len(names) - 1))
    if unreached:
        return Verdict("disconnected", ratio, factor, f"no gradient comes to {listed(unreached)}")
    for status, shares in (("dead", dead), ("saturated", saturated)):
        # One layer of a branch blocks nothing: the residual stream runs past it.
        largest = max((share for name, share in (shares or {}).items() if name in deltas), default=0.0)
        if shares and (largest >= NEARLY_ALL or sum(shares.values()) / len(shares) >= MOST):
            return Verdict(status, ratio, factor, _units_evidence(status, shares))
    near = {n for n, norm in (weights or {}).items() if norm < NEAR_ZERO and (updates or {}).get(n, 0.0) > LEAVING}
    by_depth = _judge_depth(names, values, factor, weights or {}, near)
    by_time = _judge_time(through_time or {}, ratio, factor)
    return by_time if by_time and by_depth.status in ("healthy", "unknown") else by_depth


def _judge_depth(
    names: list[str], values: list[float], factor: float, weights: Mapping[str, float], near_zero: set[str]
) -> Verdict:
    """The verdict on the way from the last layer to the first."""
    if len(names) < 2:
        return Verdict("unknown", math.nan, math.nan, f"{'1 layer' if names else 'no layer'} with a gradient")
    if 0 in values:
        return _judge_silence(names, values, weights)
    ratio = values[0] / values[-1]
    evidence = (
        f"{names[0]} gets {ratio:.2g} times the gradient that {names[-1]} gets, a factor of {factor:.3g} a layer "
        f"over {len(names)} layers"
    )
    near = [index for index, name in enumerate(names) if index and name in near_zero]
    # Where a few weights have begun at zero, as those of adapters do, the rest of the way is judged.
    rest = ratio * math.prod(values[i] / values[i - 1] for i in near)
    if _status(ratio) == "vanishing" and _status(rest) == "healthy" and 2 * len(near) <= len(names):
        evidence += f", while the weight of {listed(names[i] for i in near)} is near zero still"
        return Verdict("healthy", ratio, factor, evidence)
    return Verdict(_status(ratio), ratio, factor, evidence)


def _status(ratio: float) -> str:
    return "vanishing" if ratio < VANISHED else "exploding" if ratio > 1 / VANISHED else "healthy"


def _units_evidence(status: str, shares: Mapping[str, float]) -> str:
    """The layers that are worst off, at most three of them."""
    worst = sorted(shares, key=lambda name: -shares[name])[:3]
    what = "of the units are never positive" if status == "dead" else "of the activations are at their bound"
    mean = sum(shares.values()) / len(shares)
    of_each = ", ".join(f"{shares[name]:.0%} in {name}" for name in worst)
    over = f", on average over {len(shares)} layers: " if len(shares) > 1 else ": "
    return f"{mean:.0%} {what}{over}{of_each}"


def _judge_silence(names: list[str], values: list[float], weights: Mapping[str, float]) -> Verdict:
    """Where some |delta| is exactly 0: it has shrunk below the smallest number, or a layer has cut it off."""
    silent = [index for index, value in enumerate(values) if value == 0]
    deepest, last = silent[-1], values[-1]
    evidence = f"|delta| is exactly 0 in {len(silent)} of {len(names)} layers, the deepest of them {names[deepest]}"
    ratio = math.nan if last == 0 else values[0] / last
    if last and weights.get(names[deepest + 1]) == 0:
        evidence = f"the weight of {names[deepest + 1]} is zero, and lets no gradient through before its first step"
        return Verdict("healthy", ratio, math.nan, evidence)
    if last == 0 or (edge := values[deepest + 1] / last) >= VANISHED:
        return Verdict("dead", ratio, math.nan, evidence)
    factor = edge ** (1 / (len(names) - 2 - deepest))
    return Verdict("vanishing", ratio, factor, f"{evidence}, after a factor of {factor:.3g} a layer behind it")


def _judge_time(through_time: Mapping[str, Mapping[int, float]], ratio: float, factor: float) -> Verdict | None:
    """The verdict on the recurrent layer that is worst off; None where all are well."""
    worst, found = 0.0, None
    for name, norms in through_time.items():
        (first, early), *_, (last, late) = norms.items()
        if first == last or not late:
            continue
        if not math.isfinite(early / late):
            evidence = f"|dL/dh_t| is {early} at t = {first} and {late} at t = {last} of {name}"
            return Verdict("nan", ratio, factor, evidence)
        badness = abs(math.log(early / late)) if early else math.inf
        status = _status(early / late)
        if status != "healthy" and badness > worst:
            step = (early / late) ** (1 / (last - first))
            evidence = (
                f"in {name}, h_{first} gets {early / late:.2g} times the gradient that h_{last} gets, "
                f"a factor of {step:.3g} a time step"
            )
            worst, found = badness, Verdict(status, ratio, factor, evidence, through_time=True)
    return found
