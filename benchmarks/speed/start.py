"""From the command to its first answer, beside the imports that it cannot do without."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.row import Row, in_turns

_CLI = """
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, DemoModel
LightningCLI(DemoModel, BoringDataModule)
"""
_RESNET = ("--model", "torchvision.models.resnet18", "--input-shape", "3,64,64")


def seconds(*words: str) -> float:
    """Of a Python process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    return time.perf_counter() - start


def unvanish(*words: str) -> float:
    """Of a command of ours."""
    return seconds("-m", "unvanish", *words)


def first_row() -> float:
    """From ``fit quickstart`` to the first row of its table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "unvanish", "fit", "quickstart", "--runs", folder]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as fit:
            assert fit.stdout is not None
            next(line for line in fit.stdout if line.lstrip().startswith("1/"))
            found = time.perf_counter() - start
            fit.communicate()
    return found


def more(ours: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[float, ...]:
    """Round by round."""
    return tuple(a - b for a, b in zip(ours, theirs, strict=True))


def rows(root: Path) -> Iterator[Row]:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "cli.py"
        script.write_text(_CLI, encoding="utf-8")
        times = in_turns(
            {
                "torch": lambda: seconds("-c", "import torch"),
                "both": lambda: seconds("-c", "import torch, lightning"),
                "help": lambda: seconds(str(script), "fit", "--help"),
                "first row": first_row,
                "wrong": lambda: unvanish("fit", "quickstart", "--model.hidden_size=3"),
                "diagnose": lambda: unvanish("diagnose", "quickstart"),
                "resnet": lambda: unvanish("diagnose", *_RESNET),
            }
        )
    yield Row(
        "first row of fit quickstart, more than import torch, lightning",
        "",
        more(times["first row"], times["both"]),
        (),
        "s",
        1.0,
    )
    yield Row("the same, whole", "LightningCLI's fit --help", times["first row"], times["help"], "s")
    yield Row("one line for a wrong key", "", times["wrong"], (), "s", 0.7)
    for what, words in (("diagnose", "diagnose quickstart"), ("resnet", f"diagnose {_RESNET[1]}")):
        yield Row(f"{words}, more than import torch", "", more(times[what], times["torch"]), (), "s", 1.5)
        yield Row(f"{words}, whole", "LightningCLI's fit --help", times[what], times["help"], "s")
