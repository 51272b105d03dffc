"""A study at a glance: the score of each trial, and by each key."""

import io
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unvanish.training.metrics import Objective

_ACROSS = 4


def picture(trials: Sequence[Any], keys: Sequence[str], objective: Objective) -> bytes:
    """A PNG: the score by trial with the best so far, then by each key; a cross is a trial that was pruned or failed.

    Args:
        trials: Of an Optuna study.
        keys: Of the recipe.
        objective: What the trials are judged by.
    """
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    others = [trial for trial in trials if trial.state.name in ("PRUNED", "FAIL")]
    count = 1 + len(keys)
    lines = -(-count // _ACROSS)
    figure = Figure(figsize=(4 * min(count, _ACROSS), 3.4 * lines), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots(lines, min(count, _ACROSS), squeeze=False)
    for panel, key in zip(figure.axes, ["", *keys], strict=False):
        values = [trial.params.get(key) if key else trial.number for trial in (*done, *others)]
        if any(isinstance(value, str | bool) for value in values):
            values = [str(value) for value in values]
        elif key and min(values, default=0) > 0 and max(values) > 50 * min(values):
            panel.set_xscale("log")
        panel.scatter(values[: len(done)], [trial.value for trial in done], s=14, color="#0072B2", zorder=2)
        edge = panel.get_xaxis_transform()
        panel.plot(values[len(done) :], [0.02] * len(others), "x", color="#D55E00", transform=edge)
        panel.set(xlabel=key or "trial", ylabel=f"validation {objective.metric}")
        panel.spines[["top", "right"]].set_visible(False)
    best = max if objective.mode == "max" else min
    so_far = [*accumulate((trial.value for trial in done), best)]
    numbers = [trial.number for trial in done]
    figure.axes[0].step(numbers, so_far, where="post", color="black", linewidth=1, label="best so far")
    figure.axes[0].legend(frameon=False, fontsize=8)
    for panel in figure.axes[count:]:
        panel.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
