"""A comparison's table as a terminal has room for it; the file has every column."""

import math
from typing import NamedTuple

from unvanish.command.compare.comparison import LEGEND, Comparison
from unvanish.command.terminal import printable
from unvanish.gradients.judge.diagnosis import table

#: What a narrow terminal goes without, in this order.
_SPARED = (
    *("an epoch", "parameters", "noise scale", "first update", "h_1/h_T, start", "seconds", "factor a layer"),
    *("best validation", "first/last, start", "h_1/h_T, end"),
)


class View(NamedTuple):
    """What is printed of a comparison.

    Args:
        lines: The table, its head first.
        best: Which of the lines are those of the best variants.
        notes: What was left out, what the mark means, and what the columns are.
    """

    lines: list[str]
    best: set[int]
    notes: list[str]


def view(comparison: Comparison, width: int | None, encoding: str = "utf-8") -> View:
    """The columns in which variants differ, as many as there is room for; the best rows are marked with ``*``.

    Args:
        comparison: What is shown.
        width: Of the terminal; None where there is no limit.
        encoding: Of what it is printed to.
    """
    heads, *rows = ([printable(cell, encoding) for cell in line] for line in comparison.cells())
    columns = {head: [row[index] for row in rows] for index, head in enumerate(heads)}
    best = _best(comparison)
    names = columns.pop("variant")
    same = {head: cells[0] for head, cells in columns.items() if len(rows) > 1 and len(set(cells)) == 1}
    shown = {head: cells for head, cells in columns.items() if head not in same}
    variants = [f"{'*' if index in best else ' '} {name}" for index, name in enumerate(names)]
    left_out = []
    lines = _lines(variants, shown)
    for head in (head for head in _SPARED if head in shown):
        if width is None or max(map(len, lines)) <= width:
            break
        del shown[head]
        left_out.append(head)
        lines = _lines(variants, shown)
    notes = []
    if best and len(rows) > 1:
        notes.append(f"* the best by {comparison.scores[0]}.")
    if same:
        notes.append(f"The same in all: {', '.join(f'{head} {cell}' for head, cell in same.items())}.")
    if left_out:
        notes.append(f"Left out, as the terminal is too narrow: {', '.join(left_out)}; comparison.md has them.")
    notes += [sentence for heads, sentence in LEGEND if not (heads and shown.keys().isdisjoint(heads))]
    return View([_cut(line, width) for line in lines], {index + 1 for index in best}, notes)


def differences(comparison: Comparison, width: int | None, encoding: str = "utf-8") -> list[str]:
    """The keys in which the variants' configurations differ, a line each; nothing where they need more room."""
    found = comparison.differing
    rows = [[printable(str(cell), encoding) for cell in row] for row in found.itertuples()]
    lines = table(["differing in", *found], rows).split("\n") if rows else []
    return lines if lines and (width is None or max(map(len, lines)) <= width) else []


def _lines(variants: list[str], shown: dict[str, list[str]]) -> list[str]:
    rows = [[variant, *(cells[index] for cells in shown.values())] for index, variant in enumerate(variants)]
    return table(["  variant", *shown], rows).split("\n")


def _cut(line: str, width: int | None) -> str:
    """A line that a long name or error makes wider than the terminal would wrap, and tear the table."""
    return line if width is None or len(line) <= width else f"{line[: width - 3]}..."


def _best(comparison: Comparison) -> set[int]:
    """The rows with the best score, as it is printed: a difference that cannot be read is none."""
    scores = [round(score, 4) for score in comparison.scores[1]]
    known = [score for score in scores if not math.isnan(score)]
    top = (max if comparison.objective.mode == "max" else min)(known, default=math.nan)
    return {index for index, score in enumerate(scores) if score == top}
