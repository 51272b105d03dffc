"""What a comparison has found, as tables for people and for programs."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import pandas as pd

from unvanish.command.compare.runs import Run, configuration
from unvanish.command.errors import WrongInputError
from unvanish.command.recipes import CONFIG
from unvanish.command.result import Result, plain
from unvanish.training.metrics import Objective

_MEDIANS = (
    *("first_over_last_start", "first_over_last_end", "factor_per_layer", "early_over_late_start"),
    *("early_over_late_end", "first_update_ratio", "noise_scale", "parameters", "steps"),
)
_MEANS = ("test", "validation", "seconds", "seconds_per_epoch")
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


class Kept(NamedTuple):
    """A run and what has come of it."""

    run: Run
    result: Result


def common_objective(objectives: Mapping[str, Objective]) -> Objective:
    """The metric that all variants are judged by.

    Raises:
        WrongInputError: they have several.
    """
    if len(set(objectives.values())) > 1:
        listed = ", ".join(f"{name} has {objective.metric}" for name, objective in objectives.items())
        raise WrongInputError(f"variants are compared by one metric, and these have several: {listed}")
    return next(iter(objectives.values()), Objective("", "max"))


@final
class Comparison:
    """Runs side by side, by their variants; in a notebook it shows its table and the page of all runs.

    Args:
        kept: The runs; those of a variant have one name, and a seed each.
        target: The value of the metric on the validation split to which steps and seconds are counted; None for none.
        folder: Where it is kept.

    Attributes:
        objective: The metric that all are judged by.
        variants: The runs of each variant, by its name.
        runs: A row a run: variant, seed, folder, error, and the numbers of its result.

    Raises:
        WrongInputError: the runs have several metrics.
    """

    def __init__(self, kept: Sequence[Kept], target: float | None, folder: Path) -> None:
        self.target, self.folder = target, folder
        known = {run.variant: Objective(result.metric, result.mode) for run, result in kept if result.metric}
        self.objective = common_objective(known)
        self.variants: dict[str, list[Kept]] = {}
        for one in kept:
            self.variants.setdefault(one.run.variant, []).append(one)
        self.runs = pd.DataFrame([self._row(one) for ones in self.variants.values() for one in ones])

    def __repr__(self) -> str:
        return f"Comparison({len(self.variants)} variants, {len(self.runs)} runs, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from unvanish.command.compare.report import shown

        head, *rows = self.cells()
        return pd.DataFrame(rows, columns=head).to_html(index=False) + shown(self)

    def _repr_png_(self) -> bytes | None:
        from unvanish.command.compare.figure import figure

        return figure(self)

    def finished(self, variant: str) -> list[Kept]:
        """The runs of a variant that have not failed."""
        return [one for one in self.variants[variant] if not one.result.error]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a variant: means of metrics and times, medians of the rest, over the seeds; NaN is unknown.

        Steps and seconds to the target are those of the seeds that have reached it, infinite where none has.
        """
        rows = []
        for variant, runs in self.runs.groupby("variant", sort=False):
            done = runs[runs["error"] == ""]
            arrived = done[done["target_steps"] < math.inf]
            reached = arrived if len(arrived) else done
            rows.append(
                {
                    "variant": variant,
                    "seeds": [*runs["seed"]],
                    "verdict": _verdict(runs),
                    "target_reached": len(arrived),
                }
                | {f"{name}_mean": done[name].mean(skipna=False) for name in ("test", "validation")}
                | {f"{name}_std": done[name].std(skipna=False) for name in ("test", "validation")}
                | {name: reached[name].median(skipna=False) for name in ("target_steps", "target_seconds")}
                | {name: done[name].median(skipna=False) for name in _MEDIANS}
                | {name: done[name].mean(skipna=False) for name in _MEANS[2:]}
            )
        return pd.DataFrame(rows).set_index("variant")

    @cached_property
    def differing(self) -> pd.DataFrame:
        """The keys in which the variants' configurations differ, a row each, a column a variant; empty in one only."""
        found = {name: configuration(ones[0].run.folder) for name, ones in self.variants.items() if _has_config(ones)}
        table = pd.DataFrame({name: {k: str(v) for k, v in config.items()} for name, config in found.items()}).fillna(
            ""
        )
        return table[table.nunique(axis=1) > 1].drop(index=["name", "seed"], errors="ignore")

    @property
    def scores(self) -> tuple[str, pd.Series]:
        """By what variants are ranked: the test split where all that have finished were tested, else the validation."""
        known = self.table[self.table["validation_mean"].notna() | self.table["test_mean"].notna()]
        split = "test" if len(known) and known["test_mean"].notna().all() else "validation"
        return f"{split} {self.objective.metric}", self.table[f"{split}_mean"]

    def findings(self) -> dict[str, list[str]]:
        """What is wrong in each variant, with how many of its runs have it, and the numbers of the first."""
        told = {}
        for name in self.variants:
            done = [one.result.findings for one in self.finished(name)]
            first = {finding["name"]: finding["evidence"] for findings in reversed(done) for finding in findings}
            counts = {key: sum(key in {f["name"] for f in findings} for findings in done) for key in first}
            told[name] = [
                f"{key}{'' if counts[key] == len(done) else f' ({counts[key]} of {len(done)})'}: {evidence}"
                for key, evidence in first.items()
            ]
        return {name: lines for name, lines in told.items() if lines}

    def cells(self) -> list[list[str]]:
        """The head and the rows as text; columns that say nothing are left out."""
        metric = self.objective.metric
        columns = [
            ("variant", lambda row: row.name),
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
        rows = [row for _, row in self.table.iterrows()]
        filled = [[head, *map(show, rows)] for head, show in columns]
        said = [column for column in filled if any(cell not in {"", "nan"} for cell in column[1:])]
        return [list(line) for line in zip(*said, strict=True)]

    def save(self) -> None:
        """Write comparison.md, comparison.csv and comparison.json, which has every run."""
        head, *rows = self.cells()
        parts = [_markdown(head, rows), " ".join(sentence for _, sentence in LEGEND) + "\n"]
        if len(self.differing):
            rows = [[*map(str, row)] for row in self.differing.itertuples()]
            parts.append(_markdown(["differing", *map(str, self.differing)], rows))
        if findings := self.findings():
            parts.append("".join(f"- {name}: {line}\n" for name, lines in findings.items() for line in lines))
        by_variant = self.table.reset_index().to_dict("records")
        for row in by_variant:
            own = [plain({**self._row(one), **one.result.as_dict()}) for one in self.variants[row["variant"]]]
            row["runs"] = own
        values = {"metric": self.objective.metric, "target": self.target, "variants": plain(by_variant)}
        values["differing"] = self.differing.to_dict("index")
        for suffix, content in (
            ("md", "\n".join(parts)),
            ("csv", self.table.to_csv(lineterminator="\n")),
            ("json", json.dumps(values, indent=2, allow_nan=False) + "\n"),
        ):
            (self.folder / f"comparison.{suffix}").write_text(content, encoding="utf-8")

    def _row(self, one: Kept) -> dict[str, Any]:
        result, reached = one.result, self._reached(one.result)
        numbers = {name: getattr(result, name) for name in (*_MEANS, *_MEDIANS, "best_epoch")}
        return {
            "variant": one.run.variant,
            "seed": one.run.seed,
            "folder": str(one.run.folder),
            "error": result.error,
            "verdict": result.verdict,
            "target_steps": reached["step"],
            "target_seconds": reached["seconds"],
            **numbers,
        }

    def _reached(self, result: Result) -> dict[str, float]:
        """Where a run first reaches the target: infinite where it does not."""
        if self.target is None:
            return {"step": math.nan, "seconds": math.nan}
        sign = 1 if self.objective.mode == "max" else -1
        key = f"val/{self.objective.metric}"
        goal = sign * self.target - 1e-6  # a metric comes in float32
        points = (point for point in result.curve if sign * point.get(key, math.nan) >= goal)
        return next(points, {"step": math.inf, "seconds": math.inf})


def _has_config(ones: Sequence[Kept]) -> bool:
    return (ones[0].run.folder / CONFIG).is_file()


def _verdict(runs: pd.DataFrame) -> str:
    """Of all seeds; how many have it, where they differ, and why a run has failed."""
    total, errors = len(runs), [*filter(None, runs["error"])]
    counts = Counter(map(str, runs.loc[runs["error"] == "", "verdict"]))
    parts = [status if count == total else f"{status} {count} of {total}" for status, count in counts.items()]
    if errors:
        parts.append(f"failed{'' if len(errors) == total else f' {len(errors)} of {total}'}: {errors[0]}")
    return ", ".join(parts)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _with_spread(average: float, spread: float) -> str:
    return f"{average:.4f}" + ("" if math.isnan(spread) else f" ± {spread:.4f}")


def _to_target(row: pd.Series) -> str:
    if math.isnan(row["target_steps"]):
        return ""
    if not row["target_reached"]:
        return "never"
    some = f" ({row['target_reached']} of {len(row['seeds'])})" if row["target_reached"] < len(row["seeds"]) else ""
    return f"{row['target_steps']:.0f} steps, {row['target_seconds']:.1f} s{some}"


def _number(value: float, form: str) -> str:
    """Nothing where a value is NaN because not every network, or not every step, has it."""
    return "" if math.isnan(value) else format(value, form)
