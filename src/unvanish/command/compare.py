"""``unvanish compare``: the variants of a recipe on the same data, in the same order, from the same seed."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unvanish.command import recipes
from unvanish.command.checkpoints import BEST
from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Built, Experiment
from unvanish.command.run import new_folder, train
from unvanish.training import OBJECTIVES


class Row(NamedTuple):
    """What is compared: |delta| of the first layer over that of the last, in the first steps and in the last, ..."""

    variant: str
    test: float
    first_over_last_start: float
    first_over_last_end: float
    factor_per_layer: float
    verdict: str
    seconds: float


def compare(options: Namespace, overrides: list[str]) -> int:
    """Train every variant, test its best checkpoint, and print one table."""
    path = recipes.locate(options.comparison)
    if not recipes.is_comparison(recipes.read(path)):
        raise WrongInputError(f"{path} is a recipe, not a comparison; `unvanish fit -c {options.comparison}` trains it")
    experiments = {name: Experiment.parse(recipe, overrides) for name, recipe in recipes.variants(path).items()}
    # All are built before the first is trained, so that a mistake in the last shows at once.
    parts = {name: experiment.build() for name, experiment in experiments.items()}
    folder = new_folder(Path(options.runs) / recipes.name_of(path))
    rows: list[Row] = []
    for name, experiment in experiments.items():
        print(f"{len(rows) + 1}/{len(experiments)} {name} ...", flush=True)
        rows.append(_row(name, experiment, parts[name], folder / name))
    metric = OBJECTIVES[next(iter(parts.values())).model.settings.task].metric
    results = [row._asdict() for row in rows]
    (folder / "comparison.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\n{_table(rows, metric)}\n\nfirst/last: |dL/dz| of the first layer over that of the last")
    print(f"next: tensorboard --logdir {folder}")
    return 0


def _row(name: str, experiment: Experiment, built: Built, folder: Path) -> Row:
    folder.mkdir()
    run = train(experiment, built, folder, gradients=True, quiet=True)
    (metrics,) = run.trainer.test(built.model, built.data, folder / "checkpoints" / BEST, verbose=False)
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
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *cells)]
    return "\n".join(line.rstrip() for line in lines)
