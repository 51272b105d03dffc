"""What a comparison has found, as a table for people and for programs."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from unvanish.command.compare_run import Result
from unvanish.gradients.judge.report import json_number
from unvanish.training.metrics import Objective


class Row(NamedTuple):
    """A variant's results, a seed each."""

    variant: str
    results: list[Result]

    @property
    def finished(self) -> list[Result]:
        """Those of the runs that have not failed."""
        return [result for result in self.results if not result.error]

    @property
    def verdict(self) -> str:
        """Of all seeds; how many have it, where they differ, and why a run has failed."""
        counts = Counter(result.verdict for result in self.finished)
        total = len(self.results)
        parts = [status if count == total else f"{status} {count} of {total}" for status, count in counts.items()]
        errors = [result.error for result in self.results if result.error]
        if errors:
            parts.append(f"failed{'' if len(errors) == total else f' {len(errors)} of {total}'}: {errors[0]}")
        return ", ".join(parts)

    def over_seeds(self, value: Callable[[Result], float], average: Callable[[list[float]], float] = median) -> float:
        """The median, or another average, over the seeds; NaN where none has finished."""
        return averaged([value(result) for result in self.finished], average)


def averaged(values: list[float], average: Callable[[list[float]], float] = median) -> float:
    """The median, or another average; NaN where there is no value, or one is NaN."""
    return average(values) if values and not any(map(math.isnan, values)) else math.nan


class Comparison(NamedTuple):
    """Variants side by side.

    Args:
        rows: A variant each.
        objective: The metric that all are judged by.
        target: The value of it on the validation split to which steps and seconds are counted; None counts none.
    """

    rows: Sequence[Row]
    objective: Objective
    target: float | None

    def summary(self, row: Row) -> dict[str, Any]:
        """A row in numbers: means of metrics and times, medians of the rest, over the seeds; NaN is unknown.

        Steps and seconds to the target are those of the seeds that have reached it, infinite where none has.
        """
        reached = [self._reached(result) for result in row.finished]
        arrived = [point for point in reached if point["step"] < math.inf]
        values = {
            "variant": row.variant,
            "seeds": [result.seed for result in row.results],
            "test_mean": row.over_seeds(lambda result: result.test, mean),
            "test_std": row.over_seeds(lambda result: result.test, _spread),
            "validation_mean": row.over_seeds(lambda result: result.validation, mean),
            "validation_std": row.over_seeds(lambda result: result.validation, _spread),
            "target_reached": len(arrived),
            "target_steps": averaged([point["step"] for point in arrived or reached]),
            "target_seconds": averaged([point["seconds"] for point in arrived or reached]),
        }
        values |= {key: row.over_seeds(attrgetter(key)) for key in _MEDIANS}
        values |= {
            "verdict": row.verdict,
            "parameters": row.over_seeds(lambda result: result.parameters),
            "steps": row.over_seeds(lambda result: result.steps),
            "seconds": row.over_seeds(lambda result: result.seconds, mean),
            "seconds_per_epoch": row.over_seeds(lambda result: result.seconds_per_epoch, mean),
        }
        return values

    def _reached(self, result: Result) -> dict[str, float]:
        """Where a run first reaches the target: infinite where it does not."""
        if self.target is None:
            return {"step": math.nan, "seconds": math.nan}
        sign = 1 if self.objective.mode == "max" else -1
        key = f"val/{self.objective.metric}"
        goal = sign * self.target - 1e-6  # a metric comes in float32
        points = (point for point in result.curve if sign * point.get(key, math.nan) >= goal)
        return next(points, {"step": math.inf, "seconds": math.inf})

    def cells(self) -> list[list[str]]:
        """The head and the rows as text; columns that say nothing are left out."""
        metric = self.objective.metric
        columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
            ("variant", lambda row: row["variant"]),
            (f"test {metric}", lambda row: _with_spread(row["test_mean"], row["test_std"])),
            ("best validation", lambda row: _with_spread(row["validation_mean"], row["validation_std"])),
            (f"to {self.target}", _to_target),
            ("first/last, start", lambda row: format(row["first_over_last_start"], ".1e")),
            ("first/last, end", lambda row: format(row["first_over_last_end"], ".1e")),
            ("factor a layer", lambda row: format(row["factor_per_layer"], ".3f")),
            ("h_1/h_T, start", lambda row: _number(row["early_over_late_start"], ".0e")),
            ("h_1/h_T, end", lambda row: _number(row["early_over_late_end"], ".0e")),
            ("first update", lambda row: _number(row["first_update_ratio"], ".0e")),
            ("noise scale", lambda row: _number(row["noise_scale"], ".2g")),
            ("verdict", lambda row: row["verdict"]),
            ("parameters", lambda row: _number(row["parameters"], ",.0f")),
            ("seconds", lambda row: _number(row["seconds"], ".0f")),
            ("an epoch", lambda row: _number(row["seconds_per_epoch"], ".2g")),
        ]
        rows = [self.summary(row) for row in self.rows]
        filled = [[head, *map(show, rows)] for head, show in columns]
        said = [column for column in filled if any(cell not in {"", "nan"} for cell in column[1:])]
        return [list(line) for line in zip(*said, strict=True)]

    def save(self, folder: Path) -> None:
        """Write comparison.md, comparison.csv and comparison.json, which has every run."""
        head, *rows = self.cells()
        lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
        markdown = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        summaries = [self.summary(row) for row in self.rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, summaries[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(summaries)
        numbers = [
            {key: json_number(value) if isinstance(value, float) else value for key, value in summary.items()}
            | {"runs": [result.as_dict() for result in row.results]}
            for summary, row in zip(summaries, self.rows, strict=True)
        ]
        values = {"metric": self.objective.metric, "target": self.target, "variants": numbers}
        for suffix, content in (
            ("md", f"{markdown}\n{' '.join(sentence for _, sentence in LEGEND)}\n"),
            ("csv", text.getvalue()),
            ("json", json.dumps(values, indent=2, allow_nan=False) + "\n"),
        ):
            (folder / f"comparison.{suffix}").write_text(content, encoding="utf-8")


_MEDIANS = (
    *("first_over_last_start", "first_over_last_end", "factor_per_layer", "early_over_late_start"),
    *("early_over_late_end", "first_update_ratio", "noise_scale"),
)
#: What columns mean, by their heads; what has none is said of all.
LEGEND = (
    ((), "Metrics: mean and standard deviation over seeds; times: means; the rest: medians."),
    (
        ("first/last, start", "first/last, end"),
        "first/last: |dL/dz| of the first layer over that of the last, in the first ten steps, and in the last ten "
        "that were measured.",
    ),
    (
        ("h_1/h_T, start", "h_1/h_T, end"),
        "h_1/h_T: |dL/dh_t| (of an LSTM, of h and its cell) of the first time step over that of the last, in the tenth "
        "step, and in the last that was measured.",
    ),
    (("first update",), "first update: |dW|/|W| of the first layer in the first ten steps."),
    (("noise scale",), "noise scale: in samples, over the second half; empty where that does not tell it."),
    (("verdict",), "verdict: on the first ten steps, then on the last where that is another."),
)


def _spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan


def _with_spread(average: float, spread: float) -> str:
    return f"{average:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def _to_target(row: dict[str, Any]) -> str:
    if math.isnan(row["target_steps"]):
        return ""
    if not row["target_reached"]:
        return "never"
    some = f" ({row['target_reached']} of {len(row['seeds'])})" if row["target_reached"] < len(row["seeds"]) else ""
    return f"{row['target_steps']:.0f} steps, {row['target_seconds']:.1f} s{some}"


def _number(value: float, form: str) -> str:
    """Nothing where a value is NaN because not every network, or not every step, has it."""
    return "" if math.isnan(value) else format(value, form)
