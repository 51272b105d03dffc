"""Checks a built site: every internal link leads to a page and a place, and nothing is fetched from other hosts.

python docs/site_pages/links.py docs/_build/site
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What the browser fetches by itself, by tag; an <a> is followed only by a reader.
_FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
_UNFETCHED = {"canonical", "search", "index", "next", "prev", "author"}  # kinds of <link>


class _Page(HTMLParser):
    """The anchors of a page, its links, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag has."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif _FETCHED.get(tag) in found and found.get("rel") not in _UNFETCHED:
            self.fetched.append(found[_FETCHED[tag]])


@cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def broken(site: Path) -> list[str]:
    """A line for each link that leads nowhere, and for each thing that comes from another host."""
    lines = []
    for path in sorted(site.rglob("*.html")):
        page = _read(path)
        where = path.relative_to(site)
        lines += [f"{where}: fetches {url}" for url in page.fetched if urlsplit(url).netloc]
        for url in [*page.links, *page.fetched]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or url in ("", "#"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                lines.append(f"{where}: there is no {url}")
            elif parts.fragment and _has_anchors(target) and unquote(parts.fragment) not in _read(target).anchors:
                lines.append(f"{where}: there is no place {url}")
    return lines


def _has_anchors(target: Path) -> bool:
    """A fragment of the playground's address is no place but a state."""
    return target.suffix == ".html" and "playground" not in target.parts


def main() -> int:
    """Print what is broken; 1 if anything is."""
    site = Path(sys.argv[1]).resolve()
    lines = broken(site)
    print("\n".join(dict.fromkeys(lines)) or f"{len(list(site.rglob('*.html')))} pages: all links lead somewhere")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
