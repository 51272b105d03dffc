"""The page of what was counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from signal import Signals

from benchmarks.trust.kills import MOMENTS, SIGNALS, Kill


def page(kills: Sequence[Kill], damaged: Mapping[str, int], costs: Mapping[int, Mapping[str, float]]) -> str:
    """Markdown."""
    equal = [kill for kill in kills if not kill.differs]
    lines = [
        "# What a killed run loses",
        "",
        "`make trust` writes this page; [the programs](trust/) train four small networks, kill them and damage their",
        "checkpoints.",
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


_WHERE = dict(zip(MOMENTS, ("between or within steps", "in validation", "while a checkpoint was written"), strict=True))


def _share(kills: Sequence[Kill]) -> str:
    return f"{sum(not kill.differs for kill in kills)} of {len(kills)}"
