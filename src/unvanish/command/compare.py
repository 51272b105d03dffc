"""``unvanish compare``: the variants of a recipe on the same data, in the same order, from the same seed."""

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unvanish.command import recipes
from unvanish.command.checkpoints import checkpoint_of, load_weights
from unvanish.command.errors import WrongInputError, one_line
from unvanish.command.experiment import Built, Experiment
from unvanish.command.run import new_folder, train
from unvanish.gradients.diagnosis import table
from unvanish.gradients.report import json_number
from unvanish.training import OBJECTIVES


class Row(NamedTuple):
    """What is compared; NaN where a variant has failed, and ``verdict`` then says why.

    Args:
        variant: Its name.
        test: The task's metric on the test split, by the best checkpoint.
        first_over_last_start: |delta| of the first layer over that of the last, in the first steps.
        first_over_last_end: The same in the last steps.
        factor_per_layer: By how much |delta| changes from a layer to the one before it, in the last steps.
        verdict: On the last steps.
        seconds: Time of the training.
    """

    variant: str
    test: float = math.nan
    first_over_last_start: float = math.nan
    first_over_last_end: float = math.nan
    factor_per_layer: float = math.nan
    verdict: str = ""
    seconds: float = math.nan


def compare(options: Namespace, overrides: list[str]) -> int:
    """Train every variant, test its best checkpoint, and print one table."""
    path = recipes.locate(options.comparison)
    if not recipes.is_comparison(recipes.read(path)):
        raise WrongInputError(f"{path} is a recipe, not a comparison; `unvanish fit -c {options.comparison}` trains it")
    experiments = {name: Experiment.parse(recipe, overrides) for name, recipe in recipes.variants(path).items()}
    # All are built before the first is trained, so that a mistake in the last shows at once.
    parts = {name: experiment.build() for name, experiment in experiments.items()}
    metric = OBJECTIVES[next(iter(parts.values())).model.settings.task].metric
    folder = new_folder(Path(options.runs) / recipes.name_of(path))
    rows: list[Row] = []
    for name, experiment in experiments.items():
        print(f"{len(rows) + 1}/{len(experiments)} {name} ...", flush=True)
        try:
            rows.append(_row(name, experiment, parts.pop(name), folder / name))
        except Exception as error:  # the other variants are worth their time all the same
            rows.append(Row(name, verdict=f"failed: {one_line(error)}"))
        (folder / "comparison.json").write_text(_as_json(rows), encoding="utf-8")
    print(f"\n{_table(rows, metric)}\n\nfirst/last: |dL/dz| of the first layer over that of the last")
    print(f"next: tensorboard --logdir {folder}")
    return int(any(row.verdict.startswith("failed") for row in rows))


def _row(name: str, experiment: Experiment, built: Built, folder: Path) -> Row:
    folder.mkdir(exist_ok=True)
    run = train(experiment, built, folder, gradients=True, quiet=True)
    if any(folder.glob("checkpoints/*.ckpt")):
        load_weights(checkpoint_of(folder), built.model)
    (metrics,) = run.trainer.test(built.model, built.data, verbose=False)
    start, end = run.report.start, run.report.end
    return Row(
        name,
        metrics[f"test/{OBJECTIVES[built.model.settings.task].metric}"],
        start.first_over_last,
        end.first_over_last,
        end.factor_per_layer,
        end.status,
        run.seconds,
    )


def _as_json(rows: Sequence[Row]) -> str:
    values = [{k: json_number(v) if isinstance(v, float) else v for k, v in row._asdict().items()} for row in rows]
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _table(rows: Sequence[Row], metric: str) -> str:
    """The rows in columns."""
    head = ("variant", f"test {metric}", "first/last, start", "end", "factor a layer", "verdict", "seconds")
    cells = [
        (
            row.variant,
            f"{row.test:.4f}",
            f"{row.first_over_last_start:.1e}",
            f"{row.first_over_last_end:.1e}",
            f"{row.factor_per_layer:.3f}",
            row.verdict,
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    return table(head, cells)
