"""What was measured: each page of benchmarks/ with the command that writes it and the day of its numbers."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: By page: the command that writes it.
COMMANDS = {
    "PAPERS": "make papers",
    "FAULTS": "make faults",
    "ARCHITECTURES": "make architectures",
    "TRUST": "make trust",
    "TABLES": "make tables",
    "GPU": "make gpu",
    "SEARCH": "python -m benchmarks.search",
    "MACHINES": "python -m benchmarks.machines --gib 20 --repeats 2",
    "RESULTS": "make bench",
}
#: What is measured and printed, and stands in a page of another section.
PRINTED = {
    "a step of the playground": ("python -m benchmarks.playground", "../PLAYGROUND.md"),
    "what the remedies cure": ("make remedies", "../MONITOR.md"),
}


def write(folder: Path) -> None:
    """Write evidence.md."""
    pages = sorted((ROOT / "benchmarks").glob("*.md"))
    names = {page.stem for page in pages}
    if names != set(COMMANDS):
        raise ValueError(f"pages of benchmarks/ and commands that write them differ: {sorted(names ^ set(COMMANDS))}")
    rows = ["| page | command | day |", "|---|---|---|"]
    for page in pages:
        title = re.search(r"^# (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        words = title[1] if title else page.stem
        rows.append(f"| [{words}](../../benchmarks/{page.name}) | `{COMMANDS[page.stem]}` | {_day(page)} |")
    for words, (command, link) in PRINTED.items():
        day = _day((ROOT / "docs" / "generated" / link).resolve())
        rows.append(f"| [{words}]({link}) | `{command}` | {day} |")
    text = (
        "# What was measured\n\nEach page is written by one command, or its numbers are printed by one. "
        "The day is the last that the page names, or the day of its last commit.\n\n"
    )
    (folder / "evidence.md").write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


def _day(page: Path) -> str:
    """The last that it names, else that of its last commit; with hyphens at which no line breaks."""
    named = re.findall(r"\b20\d\d-\d\d-\d\d\b", page.read_text(encoding="utf-8"))
    return (max(named) if named else _committed(page)).replace("-", "\u2011")


def _committed(page: Path) -> str:
    command = ["git", "log", "-1", "--format=%cs", "--", page.name]
    found = subprocess.run(command, cwd=page.parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not committed"
