"""Runs one case under the judge, and puts what came of it into a row."""

import math
import time
import warnings
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.faults.cases import Facts, NotHereError, at, learns
from benchmarks.faults.judged import Judge
from benchmarks.faults.program import Program, program_of

Row = dict[str, Any]
#: When the judge is asked first, and how often from there on.
FIRST_LOOK, LOOK_EVERY = 10, 100
#: Steps that a run goes on after its loss was no number for the first time.
AFTER_NAN = 40


def run(case: Facts, seed: int, root: Path, seconds: float) -> Row:
    """The row of a case; a case that cannot be run has the reason in ``not_run``."""
    torch.set_num_threads(1)
    start = time.process_time()
    row: Row = {"id": case["id"], "seed": seed}
    try:
        if at(case, "runnable_here", "value") is False:
            raise NotHereError(at(case, "runnable_here", "why") or "it is said not to be runnable")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row |= _trained(case, program_of(case, seed, root), start + seconds)
    except NotHereError as reason:
        row["not_run"] = str(reason)
    except Exception as error:  # whatever a case of others does is a row
        row |= {"not_run": f"{type(error).__name__}: {error}"[:300], "failed": True}
    return row | {"seconds": round(time.process_time() - start, 1)}


def _trained(case: Facts, program: Program, deadline: float) -> Row:
    losses: list[float] = []
    start: list[dict[str, Any]] = []
    ended, nan_step, step = "as planned", None, 0
    with Judge(program.model) as judge:
        for step, (loss, optimizer, parameters) in enumerate(program.turns, 1):
            judge.before_backward(loss, optimizer)
            loss.backward()  # type: ignore[no-untyped-call]
            judge.before_step(step - 1, loss, parameters)
            optimizer.step()
            judge.after_step(optimizer)
            losses.append(loss.item())
            if program.validate is not None and step % LOOK_EVERY == 0:
                judge.validated(program.validate())
            if step == FIRST_LOOK:
                start = judge.look(step)
            elif step % LOOK_EVERY == 0:
                judge.look(step)
            if nan_step is None and not math.isfinite(losses[-1]):
                nan_step = step - 1
            if nan_step is not None and step > nan_step + AFTER_NAN:
                ended = "its loss is not finite"
                break
            if time.process_time() > deadline:
                ended = "its time is over"
                break
        if program.validate is not None:
            judge.validated(program.validate())
        end = judge.look(step)
        notes = judge.report.notes
    value = program.measure()
    return {
        "metric": value,
        "learns": learns(case, value),
        "steps": step,
        "planned": program.planned,
        "ended": ended,
        "nan_step": nan_step,
        "loss_first": losses[0],
        "loss_last": fmean(losses[-20:]),
        "start": start if step >= FIRST_LOOK else end,
        "end": end,
        "said": judge.said,
        "notes": notes,
        "unknown": list(program.unknown),
    }
