"""Proves the recorder on what others wrote: networks of torchvision, timm and transformers.

``python -m benchmarks.architectures`` trains each for three steps, with the recorder and without, and writes
benchmarks/ARCHITECTURES.md, also where it is stopped (Ctrl-C) before all are done. What is done is kept, and a run that
was stopped goes on, as long as neither the recorder nor the judge nor the checks nor a library have changed.
"""

import hashlib
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.architectures.page import page
from benchmarks.architectures.work import SOURCES, Job, Limits, check_all, source_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "benchmarks/ARCHITECTURES.md"


def main(words: Sequence[str] | None = None) -> int:
    """Check, print what is missed, write the page, or print it of a part; 1 where anything is missed but a verdict."""
    parser = ArgumentParser("python -m benchmarks.architectures", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names to check, such as 'resnet*'; %(default)s")
    parser.add_argument("--source", choices=SOURCES, help="one library; all")
    parser.add_argument("--limit", type=int, help="networks of each library, evenly spread; all")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs/architectures.jsonl", help="keeps the rows; %(default)s"
    )
    parser.add_argument("--again", action="store_true", help="forget the rows that --out keeps")
    parser.add_argument("--jobs", type=int, default=2, help="networks side by side; %(default)s")
    parser.add_argument("--seconds", type=float, default=120, help="that one network may take; %(default)s")
    parser.add_argument("--memory", type=float, default=8, help="GiB that one network may take; %(default)s")
    given = parser.parse_args(words)
    states = {source: _state(source) for source in SOURCES}
    if given.again:
        given.out.unlink(missing_ok=True)
    jobs = [
        job for source in SOURCES if given.source in (None, source) for job in _jobs(source, given.only, given.limit)
    ]
    rows = {job: row for job, row in _kept(given.out, states).items() if job in set(jobs)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as file, suppress(KeyboardInterrupt):
        for row in _checked([job for job in jobs if job not in rows], given.jobs, Limits(given.seconds, given.memory)):
            rows[row["source"], row["name"]] = row
            print(json.dumps(row | {"state": states[row["source"]]}), file=file, flush=True)
            print(f"{len(rows)}/{len(jobs)} {_line(row)}", file=sys.stderr, flush=True)
    text = page(list(rows.values()), len(jobs), [f"{name} {_version(name)}" for name in SOURCES], "make architectures")
    if (given.only, given.source, given.limit) == ("*", None, None):
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return int(any(row.get("findings", {}).keys() - {"verdict"} for row in rows.values()))


def _jobs(source: str, pattern: str, limit: int | None) -> list[Job]:
    names = [name for name in source_of(source).names() if fnmatch(name, pattern)]
    stride = max(1, len(names) // limit) if limit else 1
    return [(source, name) for name in names[::stride][:limit]]


def _checked(jobs: Iterable[Job], workers: int, limits: Limits) -> Iterable[dict[str, Any]]:
    """The rows; what took too much time or memory beside others is tried again, alone and with twice as much."""
    again: list[Job] = []
    for row in check_all(jobs, workers, limits):
        if "is_limit" in row:
            again.append((row["source"], row["name"]))
        else:
            yield row
    yield from check_all(again, 1, Limits(2 * limits.seconds, 2 * limits.memory))


def _state(source: str) -> str:
    """What a row of a library depends on: recorder and judge, the checks, the library, how its networks are built."""
    here, gradients = Path(__file__).parent, ROOT / "src/unvanish/gradients"
    common = [here / "check.py", here / "order.py", here / "specimen.py", *here.glob(f"{source}*")]
    rooms = (gradients, gradients / "quantities", gradients / "judge")
    files = [*common, *(file for room in rooms for file in room.glob("*.py"))]
    versions = [f"{name} {_version(name)}".encode() for name in ("torch", source)]
    return hashlib.sha256(b"\n".join([file.read_bytes() for file in sorted(files)] + versions)).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _kept(out: Path, states: dict[str, str]) -> dict[Job, dict[str, Any]]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {(row["source"], row["name"]): row for row in rows if row.pop("state") == states[row["source"]]}


def _line(row: dict[str, Any]) -> str:
    found = "; ".join(f"{check}: {text}" for check, texts in row.get("findings", {}).items() for text in texts)
    return f"{row['name']} {row['seconds']:.0f} s {row.get('not_run') or found or 'ok'}"[:200]


if __name__ == "__main__":
    raise SystemExit(main())
