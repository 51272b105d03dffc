"""What a recorder knows of the steps before, so that one that goes on measures what it would have measured."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unvanish.gradients.quantities import Part
from unvanish.gradients.quantities.gradient import GRADIENT
from unvanish.gradients.recorder import GradientRecorder

Keys = Sequence[frozenset[int] | None]


def dump(recorder: GradientRecorder, keys: Keys) -> dict[str, Any]:
    """In what a checkpoint may hold: steps taken, and the gradients that the next step's are compared with.

    Args:
        recorder: With nothing left to be flushed.
        keys: The parameters of each optimizer, as it was told of them.
    """
    previous = []
    for key in keys:
        names, gradients, norms = recorder._latest.of.get(key, ([], [], Part([], [])))
        values = norms.values.clone() if isinstance(norms.values, Tensor) else list(norms.values)
        previous.append((list(names), [gradient.clone() for gradient in gradients], list(norms.names), values))
    return {
        "taken": [recorder._taken[key] for key in keys],
        "previous": previous,
        "with_gradient": list(recorder._with_gradient),
        "with_delta": list(recorder._with_delta),
        "missing": [(what, why, list(names)) for what, why, names in recorder._missing],
    }


def load(recorder: GradientRecorder, state: dict[str, Any], keys: Keys) -> None:
    """The other way, before its first step."""
    for key, taken, (names, gradients, of, values) in zip(keys, state["taken"], state["previous"], strict=True):
        recorder._taken[key] = taken
        if names:
            device = recorder._layers.parameters[0][1].device
            moved = values.to(device) if isinstance(values, Tensor) else values
            recorder._latest.of[key] = names, [gradient.to(device) for gradient in gradients], Part(of, moved)
    recorder._with_gradient |= dict.fromkeys(state["with_gradient"])
    recorder._with_delta |= dict.fromkeys(state["with_delta"])
    for what, why, names in state["missing"]:
        recorder._missing.add(what, names, why)


def is_finite(recorder: GradientRecorder) -> bool | None:
    """Whether the gradients of the last step are, where they are on the host; None where that is not known."""
    if not recorder._steps or GRADIENT not in recorder._steps[-1].parts:
        return None
    values = recorder._steps[-1].parts[GRADIENT].values
    if not isinstance(values, Tensor):
        return all(map(math.isfinite, values))
    return bool(values.isfinite().all()) if values.device.type == "cpu" else None
