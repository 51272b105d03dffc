"""The table "paper | ours": what papers print, or what follows exactly, beside what this package measures.

``python -m benchmarks.papers [KEY...]`` computes some rows and prints them; without a KEY it computes all of them, and
writes benchmarks/PAPERS.md.
"""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch

from benchmarks.papers import blocks, images, noise, theory, training
from benchmarks.papers.row import Figure, Row, Settings
from unvanish.command.run_folder import new_folder
from unvanish.names import lookup

#: Initialization, its cures, and training, as a course would go.
ORDER = (
    "glorot_jacobian",
    "he_factor",
    "bn_explosion",
    "edge_of_chaos",
    "trainable_depth",
    "he_30_layers",
    "residual_growth",
    "width_noise",
    "pre_post_ln",
    "bn_mnist",
    "degradation",
    "nielsen",
    "adding",
    "noise_scale",
    "keras_mlp",
    "nanogpt_cpu",
)
_FOUND = {row.key: row for module in (blocks, images, noise, theory, training) for row in module.ROWS}
ROWS = {key: _FOUND[key] for key in ORDER}
PAGE = Path(__file__).parents[1] / "PAPERS.md"


class Result(NamedTuple):
    """A row that was computed: its figures, or why there are none, and the time it took."""

    row: Row
    figures: list[Figure]
    seconds: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether there are figures and all are as expected."""
        return bool(self.figures) and all(figure.passed for figure in self.figures)


def main(words: Sequence[str] | None = None) -> int:
    """Compute and print the rows; 1 where a figure is not as expected, 2 where a key or a number is wrong."""
    parser = ArgumentParser("python -m benchmarks.papers", description=__doc__, allow_abbrev=False)
    parser.add_argument("keys", nargs="*", metavar="KEY", help=f"{', '.join(ROWS)}; all of them, if none is named")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data sets; %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each figure; %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="training runs side by side; %(default)s")
    parser.add_argument("--out", type=Path, help="keeps training runs, and goes on with those in it; runs/papers/<n>")
    given = parser.parse_args(words)
    try:
        rows = [lookup("row", key, ROWS) for key in given.keys] or list(ROWS.values())
    except ValueError as error:
        parser.error(str(error))
    for name in ("seeds", "jobs"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} is {getattr(given, name)}; it must be at least 1")
    torch.set_num_threads(1)  # as many runs as jobs, a core each
    out = given.out or new_folder(Path("runs/papers"))
    results = [_compute(row, Settings(given.root, given.seeds, given.jobs, out)) for row in rows]
    command = ["python -m benchmarks.papers", *given.keys, f"--root DIR --seeds {given.seeds} --jobs {given.jobs}"]
    page = _page(results, " ".join(command))
    print(page, end="")
    if not given.keys:
        PAGE.write_text(page)
    return 0 if all(result.passed for result in results) else 1


def _compute(row: Row, settings: Settings) -> Result:
    print(f"{row.key} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        figures, failure = row.compute(settings), ""
    except Exception as error:  # an hour of other rows shall not be lost
        figures, failure = [], f"{type(error).__name__}: {error}"
    return Result(row, figures, time.perf_counter() - start, failure)


def _page(results: Sequence[Result], command: str) -> str:
    lines = [
        "# Papers, and what this package measures",
        "",
        "Ours is the mean over seeds, with the standard deviation between seeds. A limit (above, below) must",
        "hold for every seed; a tolerance in per cent must hold for the geometric mean. Test",
        "accuracies are those of the checkpoint that was best on the validation split; keras_mlp has no such split.",
        "",
        "| row | claim | figure, and what is expected | ours | as expected | seconds |",
        "|---|---|---|---|---|---|",
    ]
    lines += map(_line, results)
    lines += ["", *(f"- {result.row.key}: {result.row.limit}" for result in results if result.row.limit), ""]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines.append(f"Computed on {date.today()}, on {cores} CPU cores with torch {torch.__version__} by `{command}`.")
    return "\n".join(lines) + "\n"


def _line(result: Result) -> str:
    row, figures = result.row, result.figures
    cells = (
        row.key,
        f"{row.claim} ({row.source}; {row.standing})",
        "<br>".join(f"{figure.what}: {figure.expected}" for figure in figures),
        result.failure or "<br>".join(_spread(figure.ours) + ("" if figure.passed else " (no)") for figure in figures),
        "yes" if result.passed else "no",
        f"{result.seconds:.0f}",
    )
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _spread(ours: Sequence[float]) -> str:
    if not ours:
        return "none"
    return f"{fmean(ours):.4g}" + (f" ± {stdev(ours):.2g}" if len(ours) > 1 else "")


if __name__ == "__main__":
    raise SystemExit(main())
