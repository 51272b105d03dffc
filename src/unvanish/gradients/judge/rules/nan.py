"""A number that is NaN or infinite, and where it was born."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.activation import ACTIVATION_MEAN
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.loss import LOSS
from unvanish.gradients.quantities.weight import WEIGHT_NORM


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    record = next((record for record in seen.records if not record.is_finite), None)
    if record is None:
        return
    grows = "exp" in record.activations.values()
    grown: dict[str, Any] = (
        {"about": ("activation", *rule.about), "remedies": (_NO_EXP, *rule.remedies)} if grows else {}
    )
    data = next((g for g in record.given if not math.isfinite(g.data.smallest + g.data.largest)), None)
    target = next((h.layer for h in record.heads if h.target and not math.isfinite(h.target.rms)), None)
    if data is not None:
        yield rule.found(
            f"the data that {data.layer} was fed have NaN or infinity in them",
            [data.layer],
            cause="everything computed from them is NaN as well.",
            about=("preprocessing",),
            remedies=("rows without NaN", "a mean in place of NaN"),
        )
    elif target is not None:
        yield rule.found(
            "the targets have NaN or infinity in them",
            cause="everything computed from them is NaN as well.",
            about=("labels",),
            remedies=("finite targets",),
        )
    elif name := _first(record.of(WEIGHT_NORM)):
        step = "an earlier step of the optimizer made it so"
        yield rule.found(f"the weight of {name} is {record.of(WEIGHT_NORM)[name]}: {step}", [name], **grown)
    elif name := _first(record.of(ACTIVATION_MEAN)):
        evidence = f"the first output that is not finite is that of {name}"
        if record.step > (seen.first or seen.records)[0].step:
            yield rule.found(evidence, [name], **grown)
            return
        yield rule.found(
            f"{evidence}, before the first step",
            [name],
            cause="the signal is multiplied in every layer until it exceeds the largest number of its format.",
            remedies=(*([_NO_EXP] if grows else []), "He or Xavier initialization", "standardised inputs"),
            about=("activation", "initialization", "preprocessing", "depth"),
        )
    elif name := _last({**record.of(GRADIENT_NORM), **record.of(DELTA_NORM)}):
        number = {**record.of(GRADIENT_NORM), **record.of(DELTA_NORM)}[name]
        evidence = f"the gradient is {number} in {name}"
        if math.isfinite(record.totals.get(LOSS.name, math.nan)):
            evidence += f" while the loss is {record.totals[LOSS.name]:.3g}: it arose in the backward pass"
            yield rule.found(evidence, [name], remedies=_BACKWARD, about=("loss", "numbers"))
        else:
            yield rule.found(evidence, [name])
    else:
        loss = record.totals.get(LOSS.name, math.nan)
        if any(head.path[:1] == ("NllLoss",) and not head.target for head in record.heads):
            yield rule.found(
                f"the loss is {loss}, and all of the targets are ignored",
                cause="the mean of no numbers is NaN.",
                remedies=("labels that are not ignore_index", "batches with at least one such label"),
                about=("labels",),
            )
        else:
            yield rule.found(f"the loss is {loss}, and all layers' outputs are finite", about=("loss",))


def _first(values: Mapping[str, float]) -> str:
    return next((name for name, value in values.items() if not math.isfinite(value)), "")


def _last(values: Mapping[str, float]) -> str:
    return next((name for name, value in reversed([*values.items()]) if not math.isfinite(value)), "")


_NO_EXP = "ReLU or tanh in place of exp"
_BACKWARD = (
    "a small constant inside the square root, the logarithm or the division that the loss goes through",
    "a loss on logits",
    "bf16 instead of fp16",
)

NAN = Rule(
    name="nan",
    about=("learning_rate", "numbers"),
    cause="a value has left the range of its number format, often because the learning rate was too high.",
    remedies=("a lower learning rate", "gradient clipping", "a loss on logits", "bf16 instead of fp16"),
    look=_look,
    source="IEEE 754: what is NaN or infinite stays so",
    near="a gradient scaler that skips a step whose scaled gradients overflow: it is not recorded as a step",
)
