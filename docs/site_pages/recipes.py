"""A page for each family of recipes, from the heads of the files."""

import re
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TITLES = {
    "": "A first run",
    "cnn": "CNN",
    "hardware": "Hardware",
    "mlp": "MLP",
    "papers": "Papers",
    "recurrent": "RNN, LSTM, GRU",
    "speed": "Speed",
    "training": "Training choices, compared",
    "transformer": "Transformer",
    "vanishing": "The vanishing gradient, compared",
    "wrap": "Networks that others wrote",
}

#: By comparison: the picture that its command draws, or its runs in TensorBoard's tab, and what it shows.
_PICTURES = {
    "vanishing/mlp": ("comparison.png", "|δ| by layer in the first steps, and the learning curves, seed 0"),
    "vanishing/cnn": ("cnn_depth.png", "|δ| by layer in the first steps, and the learning curves, seed 0"),
    "training/batch_size": ("batch_size.png", "|δ| by layer in the first steps, and the learning curves, seed 0"),
    "vanishing/rnn": ("through_time.png", "Some of its runs in the tab Gradients, by time step"),
}


def write(folder: Path) -> None:
    """Write recipes_<family>.md."""
    paths = sorted((ROOT / "recipes").rglob("*.yaml"), key=lambda path: (path.parent.name, path.name))
    for family, group in groupby(paths, lambda path: path.parent.relative_to(ROOT / "recipes").as_posix()):
        name = "" if family == "." else family
        page = [f"# {_TITLES[name]}", *(_recipe(path) for path in group)]
        (folder / f"recipes_{name or 'first'}.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _recipe(path: Path) -> str:
    """Heading, what the head says, and the file."""
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head, body = [line.removeprefix("#") for line in lines[:count]], "\n".join(lines[count:]).strip()
    command = next((line.strip() for line in head if line.startswith(" unvanish ")), "")
    parts: dict[str, list[str]] = {"": [], "expect": [], "time": []}
    current = ""
    for line in head:
        if line.strip() == command:
            continue
        key = line.partition(":")[0].strip()
        if key in ("expect", "time"):
            current, line = key, line.partition(":")[2]  # noqa: PLW2901
        parts[current].append(line)
    name = path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
    shown = [f"## {name}"]
    shown += [f"```\n{command}\n```"] if command else []
    if name in _PICTURES:
        file, caption = _PICTURES[name]
        shown.append(f"![{caption}](../{file})\n\n*{caption}*")
    shown += [_paragraphs(parts[""])] if parts[""] else []
    shown += [f"*{key.capitalize()}*: {_paragraphs(parts[key])}" for key in ("expect", "time") if parts[key]]
    return "\n\n".join([*shown, f"```yaml\n{body}\n```"])


#: A line of a head that is a row of a table: a name with its numbers, or several side by side.
_ROW = re.compile(r" {3}(?=\w[^:]{0,24}: +\d|\w+ \d\.\d+(?: \+- \d\.\d+)?, [\d.]+$|.*\S {3,}\S)")


def _paragraphs(lines: list[str]) -> str:
    """Sentences as paragraphs, rows of numbers as a list; what is indented further goes on with the row above."""
    found: list[str] = []
    for line in lines:
        words = line.strip()
        if _ROW.match(line):
            found += [f"\n- {_plain(part)}" for part in re.split(r"(?<=[\dr)]) {3,}(?=\w)", words)]
        elif line.startswith("    ") and found and found[-1].startswith("\n- "):
            found[-1] += f" {_plain(words)}"
        else:
            found.append(("\n\n" if found and found[-1].startswith("\n- ") else " ") + _plain(words))
    return re.sub(r"(?<!\n)\n- ", "\n\n- ", "".join(found), count=1).strip()


def _plain(text: str) -> str:
    """Nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in "*_<>$|[]" else letter for letter in text.replace("+-", "±"))
