"""Kills runs at random moments, lets them go on, and compares them with one that was left alone."""

import csv
import json
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from benchmarks.trust.child import TRAINING, VALIDATION, WRITING, Child
from benchmarks.trust.families import words

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOMENTS = (TRAINING, VALIDATION, WRITING)
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


@dataclass(frozen=True)
class Kill:
    """What came of one.

    Args:
        family: Of the network.
        signum: The signal.
        moment: What the run was doing.
        step: Batches that it had begun.
        differs: What is not as in the run that was left alone; empty where all is equal to the last bit.
    """

    family: str
    signum: int
    moment: str
    step: int
    differs: tuple[str, ...]


def left_alone(family: str, folder: Path) -> tuple[Path, int]:
    """A run of the family to its end: its folder, and how many batches it has."""
    folder.mkdir(parents=True)
    child = Child(words(family), folder)
    if code := child.code():
        raise RuntimeError(f"{family} ends with {code}: {(folder / 'output.txt').read_text()}")
    return _run_of(folder), child.steps + 1


def kill(family: str, signum: int, moment: str, whole: Path, batches: int, folder: Path, seed: int) -> Kill:
    """Kill a run, resume it, and compare its end with that of ``whole``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    minutes = 0 if moment == WRITING else 0.002
    child = Child([*words(family), f"--checkpoint-minutes={minutes}"], folder)
    hit, step = _strike(child, signum, moment, draw.randrange(2, batches), draw.random(), folder)
    problems = []
    if (code := child.code()) != _CODES[signal.Signals(signum)]:
        problems.append(f"exit code {code}")
    for _ in range(3):
        code = Child([*words(family), "--resume"], folder).code()
        if code == 0:
            break
        problems.append(f"resume ends with {code}")
    else:
        return Kill(family, signum, hit, step, (*problems, (folder / "output.txt").read_text()[-300:]))
    return Kill(family, signum, hit, step, (*problems, *differences(whole, _run_of(folder))))


def _strike(child: Child, signum: int, moment: str, step: int, share: float, folder: Path) -> tuple[str, int]:
    """Send the signal at a moment, from a step on: nothing is there to go on from before the first checkpoint."""
    ready = False
    while not child.is_over():
        ready = ready or (child.steps >= step and any(folder.glob("runs/*/*/1/checkpoints/last.ckpt")))
        if ready and child.moment == moment:
            time.sleep(share * 0.004)
            hit, at = child.moment, child.steps
            os.kill(child.pid, signum)
            return hit, at
        time.sleep(0.0002)
    return "too late", child.steps


def differences(whole: Path, resumed: Path) -> list[str]:
    """What two runs of one recipe do not have in common."""
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, resumed))
    found = [
        name
        for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
        if not _same(ours[name], theirs[name])
    ]
    bests = [torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for run in (whole, resumed)]
    if not _same(*bests):
        found.append("best.ckpt")
    if not _same(*map(_rows, (whole, resumed))):
        found.append("metrics.csv")
    if not _same(*(json.loads((run / "gradient_report.json").read_text()) for run in (whole, resumed))):
        found.append("gradient_report.json")
    return found + [f"curve {name}" for name in _curves_apart(whole, resumed)]


def _rows(run: Path) -> list[list[tuple[str, str]]]:
    """Those of metrics.csv, sorted: those of the gradients are written a hundred at a time, or when a run is kept."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return sorted(sorted(row.items()) for row in csv.DictReader(file))


def _curves_apart(whole: Path, resumed: Path) -> list[str]:
    """The curves that Lightning's logger writes; those of the gradients are thinned from where a run begins."""
    first, second = (EventAccumulator(str(run), {"scalars": 0}).Reload() for run in (whole, resumed))
    names = {*first.Tags()["scalars"], *second.Tags()["scalars"]}
    return [
        name
        for name in sorted(names)
        if name.startswith(("train/", "val/")) and _points(first, name) != _points(second, name)
    ]


def _points(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)] if name in events.Tags()["scalars"] else []


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _run_of(folder: Path) -> Path:
    (run,) = folder.glob("runs/*/*/1")
    return run
