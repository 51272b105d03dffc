"""Records which file a run was trained on, and tells whether another file has the same content."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L

from unvanish.command.errors import WrongInputError, one_line
from unvanish.command.recipes import flat
from unvanish.command.run_folder import write_text

logger = logging.getLogger(__name__)

DATA_FILE = "data.json"
#: By what numbers are scaled.
_SCALES = {"mean", "std", "target_mean", "target_std"}
#: What data may have of their own: where they come from, what is only carried along, what is done about gaps.
_OWN = {"source", "ids", "impute"}


def fingerprint(path: Path) -> dict[str, Any]:
    """The path, size in bytes, modification time and SHA-256 of a file. Of a folder, the names and sizes are hashed.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    if path.is_dir():
        sizes = {p.relative_to(path).as_posix(): p.stat().st_size for p in sorted(path.rglob("*")) if p.is_file()}
        size = sum(sizes.values())
        sha256 = hashlib.sha256("".join(f"{name}\0{count}\0" for name, count in sizes.items()).encode())
    else:
        size = found.st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256")
    return {"path": str(path.absolute()), "size": size, "time": found.st_mtime, "sha256": sha256.hexdigest()}


@contextmanager
def said() -> Iterator[list[str]]:
    """What the data say of themselves while they are read: how a file was understood, what was left out or changed."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.extend(record.getMessage().splitlines())  # type: ignore[method-assign]
    speaker = logging.getLogger("unvanish.data")
    speaker.addHandler(handler)
    try:
        yield lines
    finally:
        speaker.removeHandler(handler)


def keep(path: str | None, data: L.LightningDataModule, said: list[str], folder: Path) -> None:
    """Write down in a run's folder which file it is trained on, which columns that has, and what was said of it."""
    if path is None:
        return
    try:
        found = fingerprint(Path(path))
    except OSError:  # what has read it a moment ago knows better
        return
    found |= {"columns": columns_of(getattr(data, "known", None)), "said": said}
    write_text(folder / DATA_FILE, json.dumps(found, indent=2, ensure_ascii=False))


def columns_of(known: Any) -> list[str]:
    """The columns that a table must have to be encoded; empty for other kinds of data."""
    encoding = (known or {}).get("encoding", {})
    columns = encoding.get("columns") or encoding.get("coder", {}).get("columns", [])
    return [*dict.fromkeys([*columns, *encoding.get("targets", [])])]


def recorded(run: Path) -> dict[str, Any] | None:
    """What a run has recorded about its file; None if there is no readable record."""
    try:
        found = json.loads((run / DATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"path", "size", "time", "sha256", "columns"} <= found.keys() else None


def is_same(there: dict[str, Any], path: Path) -> bool:
    """Whether a file has the same content as the one that a run was trained on."""
    try:
        status = path.stat()
        is_untouched = (str(path.absolute()), status.st_mtime) == (there["path"], there["time"])
        if path.is_file() and status.st_size != there["size"]:
            return False
        return (is_untouched and path.is_file()) or fingerprint(path)["sha256"] == there["sha256"]
    except OSError as error:
        raise WrongInputError(one_line(error)) from error


def newest_of(runs: list[Path], path: Path) -> Path:
    """The newest of ``runs`` (oldest first) that was trained on a file.

    Raises:
        WrongInputError: none was; the message says how the file differs from that of the newest run.
    """
    for run in reversed(runs):
        there = recorded(run)
        if there is None or is_same(there, path):
            return run
    newest = recorded(runs[-1])
    assert newest is not None
    raise WrongInputError(
        f"no run of it was trained on {path}: {runs[-1]}, the newest, was on {newest['path']}, "
        f"{_difference(newest, path)}; train with `unvanish fit`, or name a run by its config.yaml"
    )


def check(run: Path, path: Path) -> None:
    """Check a file against the one that a run was trained on; warn if only the content differs.

    Raises:
        WrongInputError: the file lacks columns of the run's file.
    """
    there = recorded(run)
    if there is None or is_same(there, path):
        return
    if _lacking(there, path):
        raise WrongInputError(f"{run} was trained on {there['path']}, {_difference(there, path)}")
    logger.warning(
        "%s was trained on %s, %s: rows that it was trained on may be among those of the test split",
        *(run, there["path"], _difference(there, path)),
    )


def check_encoding(checkpoint: Path, there: Any, data: L.LightningDataModule) -> None:
    """Refuse data that name their classes, categories or tokens otherwise than those a network was trained on.

    Args:
        checkpoint: The network's.
        there: What it holds of its data; None of an earlier version.
        data: Those that it is given now.

    Raises:
        WrongInputError: the same number would mean something else.
    """
    here = getattr(data, "known", None)
    if there is None or here is None:
        return
    before, now = (flat({"data": known}) for known in (there, here))
    differing = [key for key in before if key in now and before[key] != now[key] and ".form." not in key]
    named = {key: key.partition(".categories.")[2] or key.rpartition(".")[2] for key in differing}
    scaled = [key for key in differing if ".categories." not in key and (".scales." in key or named[key] in _SCALES)]
    for key, name in named.items():
        is_column = ".categories." in key
        if key not in scaled and (is_column or name not in _OWN):
            what = f"the categories of column {name!r} are" if is_column else f"{name} is"
            raise WrongInputError(
                f"{checkpoint} was trained on other data: {what} {str(before[key])[:80]} there and "
                f"{str(now[key])[:80]} here"
            )
    if scaled:
        logger.warning(
            "numbers are scaled by the rows of this file, not by those that %s was trained on: %s",
            *(checkpoint, ", ".join(dict.fromkeys(key.rpartition(".")[2] for key in scaled))[:200]),
        )


def _difference(there: dict[str, Any], path: Path) -> str:
    if lacking := _lacking(there, path):
        return f"whose columns {', '.join(map(repr, lacking))} {path} lacks"
    if str(path.absolute()) == there["path"]:
        return "which has changed since"
    return "which has other content"


def _lacking(there: dict[str, Any], path: Path) -> list[str]:
    """The columns of the run's table that are missing in a file."""
    if not there["columns"]:
        return []
    from unvanish.data.table_file import column_names

    names = column_names(str(path))
    return [name for name in there["columns"] if name not in names]
