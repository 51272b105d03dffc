"""The page of what was counted."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from signal import Signals

from benchmarks.trust.kills import MOMENTS, SIGNALS, Kill

PAGE = Path(__file__).parents[1] / "TRUST.md"
#: Sections that are measured by programs of their own.
LONG, FUZZ = "A long run", "Files of strangers"


def page(kills: Sequence[Kill], damaged: Mapping[str, int], costs: Mapping[int, Mapping[str, float]]) -> str:
    """Markdown."""
    equal = [kill for kill in kills if not kill.differs]
    lines = [
        "# What a killed run loses",
        "",
        f"`make trust` wrote this page on {date.today()}; [the programs](trust/) train four small networks, kill them",
        "and damage their checkpoints.",
        "",
        "## Killed and resumed",
        "",
        f"{len(equal)} of {len(kills)} runs ended where one that was left alone does, to the last bit: weights,",
        "optimizer and schedule, the best checkpoint, every row of metrics.csv, the curves in TensorBoard and the",
        "gradient report. A killed run has the exit code of its signal and goes on by `unvanish fit ... --resume`.",
        "",
        "| family | " + " | ".join(Signals(signum).name for signum in SIGNALS) + " |",
        "|---|" + "---:|" * len(SIGNALS),
    ]
    for family in dict.fromkeys(kill.family for kill in kills):
        cells = [_share([k for k in kills if (k.family, k.signum) == (family, signum)]) for signum in SIGNALS]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    hits = Counter(kill.moment for kill in kills)
    where = ", ".join(f"{hits[moment]} {_WHERE[moment]}" for moment in MOMENTS)
    others = sum(count for moment, count in hits.items() if moment not in MOMENTS)
    lines += ["", f"The signal came {where}" + (f", {others} elsewhere." if others else ".")]
    for kill in kills:
        if kill.differs:
            what = "; ".join(kill.differs)
            lines.append(f"- {kill.family}, {Signals(kill.signum).name} in {kill.moment}, step {kill.step}: {what}")
    total = sum(damaged.values())
    counts = ", ".join(f"{count} {fate}" for fate, count in damaged.items())
    lines += [
        "",
        "## Damaged checkpoints",
        "",
        f"Of {total} checkpoints with one to four changed bytes, every tenth cut instead: {counts}.",
        "",
        "## What it costs",
        "",
        "Milliseconds to write a checkpoint: beside its place, brought to the disk, then renamed. Lightning's own way",
        "waits for no disk. The last column is the look at a checksum before a checkpoint is loaded.",
        "",
        "| MB | ours | Lightning | check |",
        "|---:|---:|---:|---:|",
    ]
    for size, cost in costs.items():
        numbers = " | ".join(f"{1000 * cost[key]:.0f}" for key in ("ours", "lightning", "check"))
        lines.append(f"| {size} | {numbers} |")
    return "\n".join(lines) + "\n"


def put(title: str, body: str) -> None:
    """Write one section of the page that a program of its own measures; the others stay."""
    text = PAGE.read_text(encoding="utf-8")
    section = f"## {title}\n\n{body.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    whole = pattern.sub(lambda _: f"{section}\n", text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}"
    PAGE.write_text(whole.rstrip() + "\n", encoding="utf-8")


def others(titles: Sequence[str]) -> str:
    """The sections of the page that programs of their own measure, as they stand."""
    if not PAGE.is_file():
        return ""
    parts = re.split(r"^(?=## )", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "".join(f"\n{part.rstrip()}\n" for part in parts if part.partition("\n")[0].removeprefix("## ") in titles)


_WHERE = dict(zip(MOMENTS, ("between or within steps", "in validation", "while a checkpoint was written"), strict=True))


def _share(kills: Sequence[Kill]) -> str:
    return f"{sum(not kill.differs for kill in kills)} of {len(kills)}"
