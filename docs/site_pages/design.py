"""Who imports whom, drawn from the code."""

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "unvanish"
#: In rows, from what a person calls to what knows nothing of ours.
ROWS = (
    ("command",),
    ("networks", "data", "exercises", "testing"),
    ("training", "tensorboard_plugin", "formulas"),
    ("gradients",),
    ("page",),
)
_ABOUT = {
    "command": "verbs, runs and their folders",
    "networks": "the families",
    "data": "batches (x, y)",
    "exercises": "formulas to be written",
    "testing": "the contract",
    "training": "what families share",
    "tensorboard_plugin": "the tab Gradients",
    "formulas": "the primer's equations",
    "gradients": "recorder, judge, theory",
    "page": "the page of runs",
}
_WIDTH, _HEIGHT, _GAP, _STEP = 168, 52, 20, 104


_PAGE = """\
# Design

The parts of the package and which of them imports which, drawn from the code when this page was built. No arrow goes
up, and `make lint` makes sure of it.

```{{raw}} html
{drawing}
```

{rows}

## What happens in a run

`command` turns a recipe into a data module, a network and a trainer. Batches (x, y) go forward through the network to
logits and the loss, and back (`training`). `GradientMonitor` reads this backward pass, one record per step
(`gradients`): quantities are computed on the device, transferred together, judged by rules, and shown as text, JSON,
event files and a page (`page`), which TensorBoard's tab shows too.

What each part holds, and the rules for changing it: [Contributing](../../CONTRIBUTING.md#layout).
"""


def imports() -> dict[str, set[str]]:
    """By room the rooms of ours that it imports; ``names`` and ``specimen`` are part of all."""
    found: dict[str, set[str]] = {room: set() for row in ROWS for room in row}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room not in found:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = {name.split(".")[1] for name in names if name.startswith("unvanish.")}
            found[room] |= ours & found.keys() - {room}
    return found


def drawing() -> str:
    """Rooms as boxes, an arrow to each room that is imported."""
    widest = max(map(len, ROWS))
    total = widest * (_WIDTH + _GAP) + _GAP
    places = {}
    for index, row in enumerate(ROWS):
        left = (total - len(row) * (_WIDTH + _GAP) + _GAP) / 2
        for column, room in enumerate(row):
            places[room] = left + column * (_WIDTH + _GAP), 12 + index * _STEP
    arrows = [_arrow(places[room], places[other]) for room, others in imports().items() for other in sorted(others)]
    boxes = [
        f'<g><rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="7"/>'
        f'<text x="{x + _WIDTH / 2:g}" y="{y + 22:g}" class="room">{escape(room)}</text>'
        f'<text x="{x + _WIDTH / 2:g}" y="{y + 39:g}" class="about">{escape(_ABOUT[room])}</text></g>'
        for room, (x, y) in places.items()
    ]
    height = 12 + (len(ROWS) - 1) * _STEP + _HEIGHT + 12
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    head = f'<defs><marker id="tip" {size}><path d="M0 0L8 4L0 8z"/></marker></defs>'
    return (
        f'<svg class="rooms" viewBox="0 0 {total} {height}" role="img" aria-label="which room imports which">'
        f"{head}{''.join(arrows)}{''.join(boxes)}</svg>"
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From below one box to the top of another; within a row from side to side."""
    (x, y), (u, v) = start, end
    if v == y:
        x, u, y = (x + _WIDTH, u, y + _HEIGHT / 2) if u > x else (x, u + _WIDTH, y + _HEIGHT / 2)
        return f'<path class="arrow" d="M{x:g} {y:g}L{u:g} {y:g}" marker-end="url(#tip)"/>'
    if v < y:
        raise ValueError("a room imports one that stands above it; mend the import, or ROWS")
    shift = (u - x) * 0.12
    a, b, c, d = x + _WIDTH / 2 + shift, y + _HEIGHT, u + _WIDTH / 2 - shift, v
    bend = max(24, (d - b) / 2)
    curve = f"M{a:g} {b:g}C{a:g} {b + bend:g} {c:g} {d - bend:g} {c:g} {d - 1:g}"
    return f'<path class="arrow" d="{curve}" marker-end="url(#tip)"/>'


def write(folder: Path) -> None:
    """Write design.md."""
    rows = ["| part | imports |", "|---|---|"]
    for room, others in imports().items():
        rows.append(f"| `{room}` | {', '.join(f'`{other}`' for other in sorted(others)) or 'nothing of ours'} |")
    page = _PAGE.format(drawing=drawing(), rows="\n".join(rows))
    (folder / "design.md").write_text(page, encoding="utf-8")
