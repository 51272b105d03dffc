"""Output for people: sentences that wrap at words on a terminal and stay whole in a pipe, and colour where wanted.

rich obeys ``NO_COLOR`` and ``TERM=dumb``; what an encoding has no letters for is spelt in ASCII.
"""

import logging
import re
import shlex
import sys
from typing import TextIO, final

from rich.console import Console
from rich.text import Text

_SPELT: dict[str, str | int | None] = {
    **{"±": "+-", "…": "...", "δ": "delta", "∂": "d", "≤": "<=", "²": "2"},
    **{"▽": "v", "△": "^", "✕": "x", "\N{MULTIPLICATION SIGN}": "x", "\N{MINUS SIGN}": "-"},
}
_GOOD, _BAD, _UNKNOWN = "bold green", "bold red", "bold yellow"


def tensorboard(folder: object) -> str:
    """The command that shows a folder's runs in a browser on this machine, and to no other."""
    return shlex.join(["tensorboard", "--host", "localhost", "--logdir", str(folder)])


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream; stdout, whatever that is by then, where None."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def is_live(where: Console) -> bool:
    """Whether a line can be drawn again and again: not in a pipe, and not on a dumb terminal."""
    return where.is_terminal and not where.is_dumb_terminal


def has_unicode(where: Console) -> bool:
    """Whether blocks and Greek letters can be printed."""
    return where.encoding.lower().replace("-", "").startswith("utf")


def printable(text: str, encoding: str) -> str:
    """The text in the letters of an encoding."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(str.maketrans(_SPELT)).encode(encoding, "replace").decode(encoding)
    return text


def say(text: str, where: Console | None = None) -> None:
    """Print a text, the names of verdicts in their colours; it wraps on a terminal alone."""
    where = where or console()
    words = Text(printable(text, where.encoding))
    for found in re.finditer(r"^(?:gradients after \d+ steps:|and) ([a-z ]+):", text, re.MULTILINE):
        words.stylize(style_of(found[1]), *found.span(1))
    where.print(words, soft_wrap=not where.is_terminal)


def style_of(verdict: str) -> str:
    """The colour of a verdict."""
    return {"healthy": _GOOD, "unknown": _UNKNOWN, "not done yet": _UNKNOWN}.get(verdict, _BAD)


def table_width(where: Console) -> int | None:
    """What a table may take; no limit in a pipe."""
    return where.width if where.is_terminal else None


@final
class LogLines(logging.Handler):
    """Prints the log as sentences, above a live line where there is one.

    Args:
        stream: ``stdout`` or ``stderr``, whatever that is by then.
    """

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        stream = getattr(sys, self._stream)
        try:
            if hasattr(stream, "rich_proxied_file"):  # a live line is drawn, which another console would tear
                print(self.format(record), file=stream)
            else:
                say(self.format(record), console(stream))
        except Exception:
            self.handleError(record)
