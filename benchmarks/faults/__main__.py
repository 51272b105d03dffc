"""Trains programs of which it is known whether they are faulty, and counts what the judge says of them.

``python -m benchmarks.faults`` runs all cases of ``--cases`` and writes benchmarks/FAULTS.md. What is done is kept,
and a run that was stopped goes on, as long as neither the instrument nor the benchmark nor the case has changed. Cases
are programs: whoever runs the cases of others runs their code.
"""

import hashlib
import json
import math
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatch
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.faults.cases import Facts, load
from benchmarks.faults.page import page
from benchmarks.faults.totals import summary
from benchmarks.faults.train import Row, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Job = tuple[Facts, int]


class _Work(Protocol):
    def __call__(self, case: Facts, seed: int, /) -> Row: ...


def main(words: Sequence[str] | None = None) -> int:
    """Run, count, print; write the page where all was run."""
    parser = ArgumentParser("python -m benchmarks.faults", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=Path, default=HERE / "cases", help="folder of YAML files; %(default)s")
    parser.add_argument("--root", type=Path, default=ROOT / "data", help="folder that holds MNIST; %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each case; %(default)s")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="ids of cases, such as 'deepchecker/*'")
    parser.add_argument("--jobs", type=int, default=2, help="cases side by side; %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="of a core that one run may take; %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/faults.jsonl", help="keeps the rows; %(default)s")
    parser.add_argument("--again", action="store_true", help="forget the rows that --out keeps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counts and all cases there")
    given = parser.parse_args(words)
    if given.again:
        given.out.unlink(missing_ok=True)
    cases = [case for case in load(given.cases) if fnmatch(case["id"], given.only)]
    names = {case["id"] for case in cases}
    jobs = [(case, seed) for seed in range(given.seeds) for case in cases if case.get("same_as") not in names]
    rows = _all_rows(jobs, partial(run, root=given.root, seconds=given.seconds), given.jobs, given.out)
    found = summary(cases, rows)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(_finite(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = page(found, "make faults")
    if given.only == "*" and given.cases == HERE / "cases":
        (ROOT / "benchmarks/FAULTS.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def _all_rows(jobs: Sequence[Job], work: _Work, workers: int, out: Path) -> list[Row]:
    """The rows of all jobs: those that are kept, and those that are run now, kept as they come."""
    keys = [_key(*job) for job in jobs]
    kept = {row["key"]: row for row in _lines(out)}
    rows = {key: kept[key] for key in keys if key in kept}
    waiting = {key: job for key, job in zip(keys, jobs, strict=True) if key not in rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        for key, row in _run(waiting, work, workers):
            rows[key] = row
            if "not_run" not in row:  # what is not here today may be tomorrow
                print(json.dumps(row | {"key": key}), file=file, flush=True)
            print(f"{len(rows)}/{len(jobs)} {_line(row)}", file=sys.stderr, flush=True)
    return [rows[key] for key in keys]


def _run(waiting: dict[str, Job], work: _Work, workers: int) -> Iterator[tuple[str, Row]]:
    if workers < 2 or len(waiting) < 2:
        yield from ((key, work(*job)) for key, job in waiting.items())
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(work, *job): key for key, job in waiting.items()}
        yield from ((futures[done], done.result()) for done in as_completed(futures))


def _key(case: Facts, seed: int) -> str:
    """What a row depends on: the case, the seed, the instrument and this benchmark."""
    return hashlib.sha256(f"{_code()} {seed} {json.dumps(case, sort_keys=True, default=str)}".encode()).hexdigest()[:16]


@cache
def _code() -> str:
    files = [*(ROOT / "src/unvanish/gradients").rglob("*.py"), *HERE.glob("*.py")]
    skipped = ("show", "adapters")
    read = [file.read_bytes() for file in sorted(files) if file.parent.name not in skipped and file.name != "page.py"]
    return hashlib.sha256(b"\n".join([*read, torch.__version__.encode()])).hexdigest()


def _lines(out: Path) -> Iterable[Row]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _finite(value: Any) -> Any:
    """The same with NaN and infinity in words, as JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Row) -> str:
    said = ", ".join(finding["name"] for finding in row.get("end", ())) or "nothing"
    what = row.get("not_run") or f"{row['metric']:.3g} after {row['steps']} steps; said: {said}"
    return f"{row['id']} {row['seconds']:.1f} s {what}"[:200]


if __name__ == "__main__":
    raise SystemExit(main())
