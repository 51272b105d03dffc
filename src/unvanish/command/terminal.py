"""Output for people: sentences are wrapped on a terminal and left whole in a pipe, with colour if it is wanted.

rich obeys ``NO_COLOR`` and ``TERM=dumb``; characters that an encoding lacks are replaced by ASCII.
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
    """The command that shows a folder's runs in TensorBoard, for browsers on this machine only."""
    return shlex.join(["tensorboard", "--host", "localhost", "--logdir", str(folder)])


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream; None for the stdout at the time of printing."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def is_live(where: Console) -> bool:
    """Whether a line can be redrawn in place, which pipes and dumb terminals do not allow."""
    return where.is_terminal and not where.is_dumb_terminal


def has_unicode(where: Console) -> bool:
    """Whether blocks and Greek letters can be printed."""
    return where.encoding.lower().replace("-", "").startswith("utf")


def printable(text: str, encoding: str) -> str:
    """The text with characters that an encoding lacks replaced."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(str.maketrans(_SPELT)).encode(encoding, "replace").decode(encoding)
    return text


def say(text: str, where: Console | None = None) -> None:
    """Print a text with the names of verdicts in colour; it is wrapped only on a terminal."""
    where = where or console()
    words = Text(printable(text, where.encoding))
    for found in re.finditer(r"^(?:gradients after \d+ steps:|and) ([a-z ]+):", text, re.MULTILINE):
        words.stylize(style_of(found[1]), *found.span(1))
    where.print(words, soft_wrap=not where.is_terminal)


def style_of(verdict: str) -> str:
    """The colour of a verdict."""
    return {"healthy": _GOOD, "unknown": _UNKNOWN, "not done yet": _UNKNOWN}.get(verdict, _BAD)


def table_width(where: Console) -> int | None:
    """The width available for a table; None, no limit, in a pipe."""
    return where.width if where.is_terminal else None


@final
class LogLines(logging.Handler):
    """Prints log records as plain sentences, above the live line if there is one.

    Args:
        stream: ``stdout`` or ``stderr``, looked up at the time of printing.
    """

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        stream = getattr(sys, self._stream)
        try:
            if hasattr(stream, "rich_proxied_file"):  # a live line is drawn, which another console would tear
                print(self.format(record), file=stream)
            else:
                say(self.format(record), console(stream))
        except Exception:
            self.handleError(record)
