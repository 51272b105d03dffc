"""``unvanish.compare``: the command, for notebooks and scripts."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unvanish.command.compare.command import compared
from unvanish.command.compare.comparison import Comparison


def compare(
    *recipes: str | Path,
    keys: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: int = 1,
    jobs: int | None = None,
    target: float | None = None,
    out: str | Path | None = None,
    launcher: str = "local",
    address: str | None = None,
) -> Comparison:
    """Train recipes, or the variants of comparisons, side by side; or set runs side by side that are there already.

    Args:
        recipes: Names of packaged recipes and comparisons, files, or folders of runs.
        keys: Over those of every recipe, such as ``{"trainer.max_epochs": 5}``.
        grid: A variant for each value, such as ``{"model.num_layers": [5, 20]}``.
        seeds: Runs of each variant.
        jobs: Runs at a time; one where None, and with Ray one a CPU or GPU.
        target: The validation metric to which steps and seconds are counted.
        out: The folder that keeps it, in which what has finished is not trained again; a new one below ``runs/``
            where None.
        launcher: ``local``, or ``ray``.
        address: Of a Ray cluster.

    Returns:
        The comparison, with ``table`` and ``runs`` as data frames; a notebook shows it with its gradients.

    Raises:
        WrongInputError: something is wrong with what was asked for.
    """
    options = Namespace(
        recipes=[*map(str, recipes)],
        set=[f"{key}={','.join(map(json.dumps, values))}" for key, values in (grid or {}).items()],
        seeds=seeds,
        jobs=jobs,
        target=target,
        out=None if out is None else str(out),
        runs="runs",
        launcher=launcher,
        address=address,
    )
    return compared(options, [f"--{key}={json.dumps(value)}" for key, value in (keys or {}).items()])
