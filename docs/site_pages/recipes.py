"""A page for each family of recipes, from the heads of the files."""

from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TITLES = {
    "": "To begin with",
    "cnn": "CNN",
    "hardware": "Hardware",
    "mlp": "MLP",
    "papers": "Papers",
    "recurrent": "RNN, LSTM, GRU",
    "speed": "Speed",
    "training": "Training, compared",
    "transformer": "Transformer",
    "vanishing": "The vanishing gradient, compared",
    "wrap": "Networks of others",
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
    head, body = [line.removeprefix("#").strip() for line in lines[:count]], "\n".join(lines[count:]).strip()
    command = next((line for line in head if line.startswith("unvanish ")), "")
    parts: dict[str, list[str]] = {"": [], "expect": [], "time": []}
    current = ""
    for line in head:
        if line == command:
            continue
        key = line.partition(":")[0]
        if key in ("expect", "time"):
            current, line = key, line.partition(":")[2].strip()  # noqa: PLW2901
        parts[current].append(line)
    shown = [f"## {path.relative_to(ROOT / 'recipes').with_suffix('').as_posix()}"]
    shown += [f"```\n{command}\n```"] if command else []
    shown += [_plain(" ".join(parts[""]))] if parts[""] else []
    facts = [f"*{key.capitalize()}*: {_plain(' '.join(parts[key]))}" for key in ("expect", "time") if parts[key]]
    return "\n\n".join([*shown, *facts, f"```yaml\n{body}\n```"])


def _plain(text: str) -> str:
    """Nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in "*_<>$|[]" else letter for letter in text)
