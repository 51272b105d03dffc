"""Checks by section, each isolated, and the page that grows by a row as each of them ends."""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "tensorboard", "jsonargparse", "numpy")


@dataclass(frozen=True)
class Settings:
    """What all sections are told: the device, whether to be quick, where the data is, and a folder for runs."""

    device: torch.device
    quick: bool
    root: Path
    runs: Path

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"


class NotHereError(Exception):
    """A check that has no meaning on this device or with this torch; the message says why, in a few words."""

    def __init__(self, why: str = "needs CUDA") -> None:
        super().__init__(why)


Check = tuple[str, Callable[[], list[str]]]


class Section(NamedTuple):
    """A table: its title, what is to be known of it, the columns that a check gives, and the checks by name."""

    title: str
    text: str
    columns: list[str]
    checks: Callable[[Settings], Iterator[Check]]


class Row(NamedTuple):
    """What came of a check."""

    name: str
    verdict: str
    cells: list[str]
    seconds: float


def attempt(name: str, check: Callable[[], list[str]]) -> Row:
    """Run a check; whatever it raises becomes the row's reason."""
    start = time.perf_counter()
    try:
        verdict, cells = "yes", check()
    except NotHereError as error:
        verdict, cells = str(error), []
    except Exception as error:  # the other rows shall not be lost
        verdict, cells = f"no: {_reason(error)}", []
    return Row(name, verdict, cells, time.perf_counter() - start)


@dataclass
class Page:
    """The page, printed and written row by row.

    Args:
        settings: What was asked for.
        command: What began it.
        path: Where the page goes; None only prints it.
    """

    settings: Settings
    command: str
    path: Path | None
    lines: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"yes": 0, "no": 0, "not here": 0})
    start: float = field(default_factory=time.perf_counter)

    def open(self, section: Section) -> None:
        titles = ["check", "holds", *section.columns, "seconds"]
        self._write("", f"## {section.title}", "", section.text, "", _line(titles), "|---" * len(titles) + "|")

    def add(self, section: Section, row: Row) -> None:
        word = row.verdict.partition(":")[0]
        self.counts[word if word in ("yes", "no") else "not here"] += 1
        cells = row.cells + [""] * (len(section.columns) - len(row.cells))
        self._write(_line([row.name, row.verdict, *cells, f"{row.seconds:.1f}"]))

    def close(self) -> None:
        self._write("", "Complete.")

    def _write(self, *lines: str) -> None:
        print(*lines, sep="\n", flush=True)
        self.lines += lines
        if self.path is not None:
            self.path.write_text("\n".join([*self._head(), *self.lines]) + "\n", encoding="utf-8")

    def _head(self) -> list[str]:
        done = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        return [
            "# On a GPU",
            "",
            f"`{self.command}` on {time.strftime('%Y-%m-%d')}: {done}; {time.perf_counter() - self.start:.0f} s.",
            "A page that does not end with the word Complete is of a run that was cut off.",
            "",
            f"- device: {device_line(self.settings.device)}",
            f"- python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        ]


def device_line(device: torch.device) -> str:
    """The card, its driver and its libraries."""
    if device.type != "cuda":
        return f"{device.type}, {torch.get_num_threads()} threads"
    found = torch.cuda.get_device_properties(device)
    driver = "unknown"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
        driver = answer[0] if answer else driver
    return (
        f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}, driver "
        f"{driver}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:  # PackageNotFoundError is one
        return "missing"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return (kind + (lines[0] if lines else "no message"))[:300]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def run(sections: list[Section], settings: Settings, path: Path | None) -> int:
    """Run the checks of the sections one after the other; 1 where one of them does not hold."""
    page = Page(settings, "python -m benchmarks.gpu " + " ".join(_words()), path)
    for section in sections:
        page.open(section)
        for name, check in section.checks(settings):
            page.add(section, attempt(name, check))
    page.close()
    return 1 if page.counts["no"] else 0


def _words() -> list[str]:
    """The command line, without the folders of one machine."""
    words = sys.argv[1:]
    hidden = {"--root": "DATA", "--out": "FILE"}
    return [hidden.get(words[i - 1], word) if i else word for i, word in enumerate(words)]
