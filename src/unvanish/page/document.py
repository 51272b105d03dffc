"""The page as one file: no server, no network, nothing beside it."""

import html as escaping
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

#: In the order in which each needs only those before it.
SCRIPTS = (
    *("glossary.js", "colours.js", "model.js", "dom.js", "axes.js", "export.js", "focus.js", "runs.js", "depth.js"),
    *("maps.js", "time.js", "bar.js", "layer.js", "cards.js", "app.js"),
)
STYLE = "style.css"
#: What the page is called beside the logs of a run, or of a comparison.
REPORT = "report.html"
_DATA = re.compile(r'<script type="application/json" id="runs">(.*?)</script>', re.DOTALL)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)


def source(name: str) -> str:
    """One of the component's files."""
    return files("unvanish.page").joinpath("static", name).read_text(encoding="utf-8")


def _inlined(name: str) -> str:
    """A module as a scope of its own: a page from disk may not import. What it exports is there for those after it."""
    module = source(name)
    exported = ", ".join(_EXPORT.findall(module))
    body = re.sub("^export ", "", _IMPORT.sub("", module), flags=re.MULTILINE)
    return f"const {{ {exported} }} = (() => {{\n{body}return {{ {exported} }};\n}})();"


def html(runs: Sequence[Mapping[str, Any]], title: str = "gradients") -> str:
    """A page of runs, as of ``unvanish.gradients.show.runs``."""
    script = "\n".join(map(_inlined, SCRIPTS))
    data = json.dumps(runs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaping.escape(title)}</title>\n<style>\n{source(STYLE)}</style>\n</head>\n<body>\n"
        f'<script type="application/json" id="runs">{data}</script>\n<script type="module">\n{script}\n'
        'show(document.body, embedded(JSON.parse(document.getElementById("runs").textContent)));\n'
        "</script>\n</body>\n</html>\n"
    )


def write(path: Path, runs: Sequence[Mapping[str, Any]], title: str = "gradients") -> None:
    """Keep a page of runs."""
    path.write_text(html(runs, title), encoding="utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    """The runs of a page that was kept.

    Raises:
        ValueError: it is no such page.
    """
    found = _DATA.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} is no page of runs")
    runs: list[dict[str, Any]] = json.loads(found[1])
    return runs


def framed(runs: Sequence[Mapping[str, Any]], height: int = 760) -> str:
    """The page as a part of another, which can neither see it nor be seen by it: a notebook's cell."""
    page = escaping.escape(html(runs), quote=True)
    look = f"width:100%;height:{height}px;border:0"
    return f'<iframe srcdoc="{page}" style="{look}" sandbox="allow-scripts allow-downloads"></iframe>'
