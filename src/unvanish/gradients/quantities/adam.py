"""Adam's state by layer: the size of the gradients, sqrt(v_hat), and the effective learning rate.

Kingma and Ba (2015), algorithm 1; also AdamW, NAdam and RAdam.
"""

import math
from typing import Any

import torch
from torch import Tensor

from unvanish.gradients import measure
from unvanish.gradients.quantities.quantity import Field, Numbers, Quantity, Update

SECOND_MOMENT, STEP, MOVING, COUNT = (Field() for _ in range(4))


def _read(moment: Update) -> dict[Field, object]:
    groups = moment.optimizer.param_groups if moment.optimizer else []
    options: dict[Any, dict[str, Any]] = {id(weight): group for group in groups for weight in group["params"]}
    names, seconds, squares, steps, moving, counts = [], [], [], [], [], []
    for name, weight in zip(moment.names, moment.weights, strict=True):
        group = options.get(id(weight), {})
        state = moment.optimizer.state.get(weight, {}) if moment.optimizer else {}
        if not {"exp_avg_sq", "step"} <= state.keys() or "betas" not in group:
            continue
        second = measure.local(state["exp_avg_sq"])
        v = second if second.dtype is torch.float64 else second.float()
        wide, step = measure.accumulator(v.device), state["step"]
        step = measure.number(step) if isinstance(step, Tensor) else step
        if not isinstance(step, Tensor) and not step:  # skipped by a gradient scaler
            continue
        bias = 1 - group["betas"][1] ** step
        moves = v > 0  # a weight that has never had a gradient, as behind a dead unit, is not updated
        inverse = ((v / bias).sqrt() + group["eps"]).reciprocal().where(moves, 0.0)
        names.append(name)
        seconds.append(state["exp_avg_sq"])
        squares.append(measure.number(v.sum(dtype=wide)) / bias)
        steps.append(measure.number(inverse.sum(dtype=wide)) * group["lr"])
        moving.append(measure.number(moves.sum()))
        counts.append(second.numel())
    if not names:
        return {}
    parts = ((SECOND_MOMENT, squares), (STEP, steps), (MOVING, moving), (COUNT, counts))
    return {field: moment.whole.sums(names, values, seconds) for field, values in parts}


def _rms(numbers: Numbers) -> float:
    return math.sqrt(numbers[SECOND_MOMENT] / numbers[COUNT])


ADAM_RMS = Quantity(
    name="adam_rms",
    title="RMS of dL/dW as Adam remembers it, sqrt(v_hat)",
    unit="loss / weight",
    moment=Update,
    read=_read,
    fields=(SECOND_MOMENT, COUNT),
    value=_rms,
    charted=False,
)
ADAM_STEP = Quantity(
    name="adam_step",
    title="learning rate over sqrt(v_hat) + eps, mean over the weights that move",
    unit="weight^2 / loss",
    fields=(STEP, MOVING),
    value=lambda numbers: numbers[STEP] / numbers[MOVING] if numbers[MOVING] else 0.0,
    charted=False,
)
