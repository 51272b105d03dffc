"""``unvanish recipes``: lists the recipes, each with the summary and the time that its file begins with."""

import re
from itertools import groupby, takewhile
from pathlib import Path
from typing import NamedTuple

from unvanish.command.recipes import names, packaged


class Head(NamedTuple):
    """The comment at the head of a recipe.

    Args:
        summary: Its first sentence.
        time: The duration of the training, such as 7 s; empty if not given.
    """

    summary: str
    time: str


def head_of(path: Path) -> Head:
    """Read the head of a recipe: a line with its command, then what it shows, what to expect, and the time."""
    comment = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    lines = [line.removeprefix("#").strip() for line in comment]
    time = next((line.removeprefix("time:").strip() for line in lines if line.startswith("time:")), "")
    before = takewhile(lambda line: not line.startswith(("expect:", "time:")), lines)
    said = " ".join(line for line in before if not line.startswith("unvanish "))
    sentence = re.split(r"(?<=[^A-Z].[.?])\s+(?=[A-Z-])", said, maxsplit=1)[0]
    measured = re.match(r"(?:about )?[\d.,]+ (?:s|seconds|min|minutes|h)\b", time)
    return Head(sentence.rstrip("."), measured[0].replace("seconds", "s").replace("minutes", "min") if measured else "")


def recipe_list(width: int | None) -> str:
    """The list of all packaged recipes by family, one line each.

    Args:
        width: Columns to which lines are cut; None for no limit.
    """
    known = names()
    longest = max(map(len, known))
    lines = []
    for family, group in groupby(known, lambda name: name.rpartition("/")[0]):
        lines += ["", family or "to begin with"]
        for name in group:
            head = head_of(packaged() / f"{name}.yaml")
            line = f"  {name:{longest}}  {head.time:>8}  {head.summary}".rstrip()
            lines.append(line if width is None or len(line) <= width else f"{line[: width - 3].rstrip()}...")
    lines += ["", "times: on one or two CPU cores; `unvanish recipes show NAME` says more"]
    return "\n".join(lines).strip()
