"""The folder of a run: made anew, known by a marker, and emptied or removed only where it has one."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.processes import is_first

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARKER = ".unvanish-run"
_NOTE = "A run of unvanish is kept here. Where this file is, `unvanish compare` may remove what is beside it.\n"


def numbered(parent: Path) -> list[Path]:
    """What has a number for its name, the least first."""
    return sorted((path for path in parent.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def new_folder(parent: Path) -> Path:
    """Make ``parent/<n>``, n one more than the largest there."""
    with as_wrong_input("cannot write the run: "):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / str(max((int(path.name) for path in numbered(parent)), default=0) + 1)
            with suppress(FileExistsError):  # another run was faster
                folder.mkdir()
                return folder


def new_run(parent: Path) -> Path:
    """The same with a run's marker; a further process of a run makes none: the first tells it later, see ``Keeper``."""
    if not is_first():
        return parent / "of the first process"
    folder = new_folder(parent)
    _mark(folder)
    return folder


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Have a run's folder alone; the system lets go of it when the process ends, however that is.

    Raises:
        WrongInputError: another process trains there.
    """
    with ExitStack() as stack:
        if fcntl is not None and is_first():
            with as_wrong_input("cannot write the run: "):
                file = stack.enter_context((folder / MARKER).open("rb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WrongInputError(f"{folder} is being trained by another process") from error
            except OSError:  # a file system without locks
                pass
        yield


def emptied_run(folder: Path) -> None:
    """Make ``folder`` for a run, or empty it of the run that it holds.

    Raises:
        WrongInputError: it holds something else.
    """
    check_replaceable(folder)
    with as_wrong_input("cannot write the run: "):
        folder.mkdir(parents=True, exist_ok=True)
        _mark(folder)
        _empty(folder)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything and no run's marker, so that no run has made it."""
    if folder.is_symlink():
        raise WrongInputError(f"{folder} is a link; what is behind it is no run's to replace: remove the link")
    with as_wrong_input("cannot write the run: "):
        if folder.exists() and any(folder.iterdir()) and not is_marked(folder):
            raise WrongInputError(f"{folder} holds no {MARKER}, so no run made it: move it away, nothing is removed")


def remove(folder: Path) -> None:
    """Remove a run's folder; any other stays."""
    if is_marked(folder):
        with suppress(OSError):  # another process of the same run may do so too
            _empty(folder)
            (folder / MARKER).unlink()
            folder.rmdir()


def is_marked(folder: Path) -> bool:
    """Whether a run was kept there."""
    return not folder.is_symlink() and (folder / MARKER).is_file()


def _mark(folder: Path) -> None:
    """Before anything else is written there, so that an interrupted run is known as one."""
    with as_wrong_input("cannot write the run: "):
        (folder / MARKER).write_text(_NOTE, encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _empty(folder: Path) -> None:
    """The marker stays to the last: whoever is interrupted here leaves a run's folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
