"""The site, built by `make docs`: docs/, benchmarks/, notebooks/, and what docs/site_pages/ writes from the code."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from site_pages import api, design, evidence, recipes  # noqa: E402

import unvanish  # noqa: E402

project = "unvanish"
author = "The unvanish maintainers"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = unvanish.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # brings MathJax along, so that a page asks no other host
]
root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "docs/generated/**", "benchmarks/*.md", "benchmarks/speed/*.md", "notebooks/*.ipynb"),
    *("CONTRIBUTING.md", "CHANGELOG.md"),
]
exclude_patterns = [".venv*", "docs/_build", "build", "runs", "data", "src", "tests", "recipes"]
templates_path: list[str] = []

nb_execution_mode = "off"  # their outputs are committed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = [
    "myst.header",  # a notebook's chapter begins where the one before has ended
    "mystnb.unknown_mime_type",  # a report's own, beside text and HTML
    "ref.python",  # a result's name in a docstring, as h, is no reference to an attribute of that name
]

autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

highlight_language = "none"  # of blocks that do not say theirs: what a terminal shows
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = "unvanish"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["phone.js"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    f"{mode}_css_variables": {
        "color-brand-primary": colour,
        "color-brand-content": colour,
        "color-brand-visited": visited,
    }
    for mode, colour, visited in (("light", "#b34700", "#8a3700"), ("dark", "#ff9d5c", "#e0a06c"))
}
html_extra_path = ["extra"]

#: In docstrings these are letters of formulas, and reStructuredText would take them for markup.
_MARKUP = re.compile(r"(``.+?``)|([|*])|(?<=\w)(_)(?!\w)|(?<![`\w:])(`)(?!`)")


def _escape(app, what, name, obj, options, lines) -> None:
    """Docstrings are plain English with formulas; all markup they have is double backticks, lists and sections."""
    if lines and lines[0].startswith("Alias for field number"):  # a named tuple's, by Python
        lines.clear()
    for index, line in enumerate(lines):
        start = len(line) - len(line.lstrip())
        kept = 2 if line.lstrip().startswith(("- ", "* ")) else 0
        head, body = line[: start + kept], line[start + kept :]
        lines[index] = head + _MARKUP.sub(lambda found: found[1] or "\\" + (found[2] or found[3] or found[4]), body)


def _write_pages(app) -> None:
    folder = ROOT / "docs" / "generated"
    folder.mkdir(exist_ok=True)
    for module in (recipes, evidence, api, design):
        module.write(folder)


def _copy_playground(app, error) -> None:
    if error is None and app.builder.format == "html":
        target, left = Path(app.outdir) / "docs" / "playground", shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(ROOT / "docs" / "playground", target, dirs_exist_ok=True, ignore=left)


def _links_of_the_site(app, name, source) -> None:
    """In a repository a link may lead to README, whose place index.md has here, and to a folder, which has no page."""
    source[0] = source[0].replace("](../README.md)", "](index.md)")
    source[0] = re.sub(r"\[([^]]+)\]\((?!http)[^)\s]*/\)", r"\1", source[0])


def setup(app) -> None:
    """Connect what is done before and after."""
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _links_of_the_site)
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon makes markup of sections
    app.connect("build-finished", _copy_playground)
