"""Spoils files of every kind, and counts what becomes of them: ``python -m benchmarks.fuzz`` prints the table."""

import logging
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.fuzz.readers import READERS, crc, spoiled
from benchmarks.trust.page import FUZZ, put
from unvanish.command.errors import WrongInputError

#: Longer than this is a hang.
SECONDS = 20.0
#: Minutes after which the page is written.
_WHOLE = 5.0
_WORDS = """\
`python -m benchmarks.fuzz`: good files of each kind with one to four things wrong (bytes
changed, taken out, doubled or put in), each read as a command reads it: refused in one line, read, or worse.
What is read otherwise than the file says is counted in [TABLES.md](TABLES.md). Of 17 recipes that name
what they may not, given to six commands each, none runs anything (`tests/command/test_allowed.py`)."""
ONE_LINE, FINE, TRACEBACK, HANG = "one line", "read", "traceback", "hang"


def outcome(kind: str, content: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a file, and the words."""
    path = folder / READERS[kind].name
    path.write_bytes(content)
    start = time.monotonic()
    try:
        READERS[kind].read(path)
        found, words = FINE, ""
    except (ValueError, OSError, WrongInputError) as error:
        words = str(error)
        found = ONE_LINE if "\n" not in words and words else TRACEBACK
    except Exception:
        found, words = TRACEBACK, traceback.format_exc()
    return (HANG if time.monotonic() - start > SECONDS else found), words


def main(words: Sequence[str] | None = None) -> int:
    """Spoil, read, count; 1 where there is a traceback or a hang, whose file is kept."""
    parser = ArgumentParser("python -m benchmarks.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--kinds", nargs="+", choices=READERS, default=[*READERS], help="of files; all")
    parser.add_argument("--minutes", type=float, default=1.0, help="of processor time, for all kinds; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first file; %(default)s")
    parser.add_argument("--found", type=Path, help="a folder for files with a traceback or a hang")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    logging.getLogger("unvanish").setLevel(logging.ERROR)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in given.kinds}
    with tempfile.TemporaryDirectory() as name:
        wholes = {}
        for kind in given.kinds:
            path = Path(name, kind.replace(" ", "_"), READERS[kind].name)
            path.parent.mkdir()
            READERS[kind].whole(path)
            wholes[kind] = path.parent, path.read_bytes()
            READERS[kind].read(path)  # a good one is read
        start, seed = time.process_time(), given.seed
        with suppress(KeyboardInterrupt):  # what was counted until then is printed
            while time.process_time() - start < 60 * given.minutes:
                for kind, (folder, whole) in wholes.items():
                    content = spoiled(whole, seed)
                    found, said = outcome(kind, content, folder)
                    counts[kind][found] += 1
                    if found in (TRACEBACK, HANG):
                        print(f"{kind}, seed {seed}: {found}: {said}", flush=True)
                        if given.found:
                            given.found.mkdir(parents=True, exist_ok=True)
                            (given.found / f"{crc(content)}.{READERS[kind].name}").write_bytes(content)
                seed += 1
        print(f"{(time.process_time() - start) / 60:.1f} minutes of processor time, seeds {given.seed} to {seed}\n")
    print(table(counts))
    if given.minutes >= _WHOLE:
        put(FUZZ, f"{_WORDS}\n\n{table(counts)}")
    return int(any(count[TRACEBACK] + count[HANG] for count in counts.values()))


def table(counts: dict[str, Counter[str]]) -> str:
    """Markdown."""
    columns = (ONE_LINE, FINE, TRACEBACK, HANG)
    lines = [f"| file | inputs | {' | '.join(columns)} |", "|---|" + "---:|" * (1 + len(columns))]
    for kind, count in counts.items():
        lines.append(f"| {kind} | {count.total()} | {' | '.join(str(count[column]) for column in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
