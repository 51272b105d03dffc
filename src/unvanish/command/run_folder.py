"""The folder of a run. It is recognised by a marker file, and only a folder with a marker is emptied or removed."""

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
    """The files and folders whose names are numbers, in increasing order."""
    return sorted((path for path in parent.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def new_folder(parent: Path) -> Path:
    """Make the folder ``parent/<n>``, where n is one more than the largest number there."""
    with as_wrong_input("cannot write the run: "):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / str(max((int(path.name) for path in numbered(parent)), default=0) + 1)
            with suppress(FileExistsError):  # another run was faster
                folder.mkdir()
                return folder


def new_run(parent: Path) -> Path:
    """Make such a folder with a marker. Only the first process does so, and ``Keeper`` tells the others its name."""
    if not is_first():
        return parent / "of the first process"
    folder = new_folder(parent)
    _mark(folder)
    return folder


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process. The system releases the lock when the process ends, even if it is killed.

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
    """Make ``folder`` for a run, or remove the contents of the run that it holds.

    Raises:
        WrongInputError: it holds something other than a run.
    """
    check_replaceable(folder)
    with as_wrong_input("cannot write the run: "):
        folder.mkdir(parents=True, exist_ok=True)
        _mark(folder)
        _empty(folder)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that is not empty and has no marker, so that it was not made by a run."""
    if folder.is_symlink():
        raise WrongInputError(f"{folder} is a link; what is behind it is no run's to replace: remove the link")
    with as_wrong_input("cannot write the run: "):
        if folder.exists() and any(folder.iterdir()) and not is_marked(folder):
            raise WrongInputError(f"{folder} holds no {MARKER}, so no run made it: move it away, nothing is removed")


def remove(folder: Path) -> None:
    """Remove a run's folder; any other folder is left alone."""
    if is_marked(folder):
        with suppress(OSError):  # another process of the same run may do so too
            _empty(folder)
            (folder / MARKER).unlink()
            folder.rmdir()


def is_marked(folder: Path) -> bool:
    """Whether a folder has the marker of a run."""
    return not folder.is_symlink() and (folder / MARKER).is_file()


def _mark(folder: Path) -> None:
    """Write the marker. It comes before everything else, so that an interrupted run is recognised as one."""
    with as_wrong_input("cannot write the run: "):
        (folder / MARKER).write_text(_NOTE, encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: the file is either complete or unchanged."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _empty(folder: Path) -> None:
    """Remove the contents except for the marker, so that the folder is still recognised after an interruption."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
