"""Recipes as users train them, by the command line."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from benchmarks.gpu.page import Check, NotHereError, Section, Settings


class _Fit(NamedTuple):
    """A recipe, what is said beside it, and the score that is to be reached.

    Args:
        recipe: Its name.
        least: What val/accuracy is to reach; of another score, what it may be at most.
        words: Options; DATA stands for the folder of the data sets.
        overlay: Of the hardware.
    """

    recipe: str
    least: float
    words: tuple[str, ...] = ()
    overlay: str = "gpu"


_ROOT = ("--data.root=DATA",)
_FITS = (
    _Fit("quickstart", 0.9),
    _Fit("mlp/mnist", 0.97, (*_ROOT, "--trainer.max_epochs=3")),
    _Fit("cnn/mnist", 0.985, (*_ROOT, "--trainer.max_epochs=2")),
    _Fit("cnn/mnist", 0.985, (*_ROOT, "--trainer.max_epochs=2"), "gpu_bf16"),
    _Fit("cnn/mnist", 0.985, (*_ROOT, "--trainer.max_epochs=2", "--trainer.precision=16-mixed")),
    _Fit("recurrent/text", 6.0, ("--trainer.max_epochs=2",)),
    _Fit("transformer/mnist", 0.94, (*_ROOT, "--trainer.max_epochs=3")),
    _Fit(
        "transformer/text",
        9.0,
        ("--data.path=DATA/tinyshakespeare.txt", "--trainer.max_steps=1000", "--trainer.val_check_interval=1000"),
    ),
    _Fit("wrap/resnet18", 0.8, ("--trainer.max_epochs=5",)),
)
_ON_A_CPU = _Fit("quickstart", 0.5, ("--trainer.max_epochs=3",), "cpu")


def checks(settings: Settings) -> Iterator[Check]:
    if not settings.is_cuda:
        yield _title(_ON_A_CPU), partial(_fit, _ON_A_CPU, settings)
    for fit in _FITS:
        yield _title(fit), partial(_fit if settings.is_cuda else _needs_cuda, fit, settings)


def _title(fit: _Fit) -> str:
    words = (word for word in fit.words if word not in _ROOT)
    return " ".join([fit.recipe, f"-c hardware/{fit.overlay}", *words])


def _needs_cuda(fit: _Fit, settings: Settings) -> list[str]:
    raise NotHereError


def _fit(fit: _Fit, settings: Settings) -> list[str]:
    words = [word.replace("DATA", str(settings.root)) for word in fit.words]
    command = ["fit", "-c", fit.recipe, "-c", f"hardware/{fit.overlay}", *words, "--runs", str(settings.runs)]
    done = subprocess.run(
        [sys.executable, "-m", "unvanish", *command], capture_output=True, text=True, check=False, timeout=180
    )
    said = done.stderr.strip().splitlines()
    assert done.returncode == 0, f"exit {done.returncode}: {said[-1] if said else 'no message'}"
    found = re.search(r"best (\S+) (\S+), (\d+) s of training", done.stdout)
    assert found, f"no score in {done.stdout[-200:]!r}"
    name, score, seconds = found[1], float(found[2]), found[3]
    verdict = re.findall(r"^gradients after \d+ steps: (.*)", done.stdout, re.MULTILINE)
    reached = score >= fit.least if name.endswith("accuracy") else score <= fit.least
    assert reached, f"{name} is {score:.4g}, to be {fit.least:.4g}"
    return [name, f"{score:.4g}", f"{fit.least:.4g}", seconds, verdict[-1].split(":")[0] if verdict else "none said"]


SECTION = Section(
    "Recipes by the command line",
    "`unvanish fit -c RECIPE ...`, shortened where that is said: the best score of the validation split, and what it "
    "has to reach. The last column counts a new process that imports everything, reads the data and writes the run.",
    ["score", "reached", "wanted", "s of training", "gradients"],
    checks,
)
