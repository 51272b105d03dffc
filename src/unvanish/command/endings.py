"""Chooses which error to raise for a run that did not finish."""

import errno
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unvanish.command.errors import FailedError, StoppedError, WrongInputError, as_wrong_input, one_line
from unvanish.command.finite import NonFinite
from unvanish.command.keeper import Keeper, Stopped
from unvanish.command.processes import is_first, lost
from unvanish.command.run_folder import remove
from unvanish.gradients import Report

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


def ending(
    error: BaseException, keeper: Keeper, trainer: L.Trainer | None, report: Report, checkpoint: Path | None
) -> BaseException:
    """The error to raise when a run fails; a bug in the user's code is returned unchanged. The folder of a new run that
    has made no step is removed.

    Args:
        error: The error that ended the run.
        keeper: Knows which checkpoint was saved.
        trainer: None if it had not been created yet.
        report: The gradient report so far.
        checkpoint: The checkpoint that the run started from, if any.
    """
    folder = keeper.folder
    has_steps = trainer is not None and keeper.has_started and trainer.global_step > 0
    is_gone = keeper.has_started and not folder.is_dir()
    keeper.logs.take_back()
    if not (has_steps or keeper.logs.goes_on):
        remove(folder)  # nothing was trained
    if isinstance(error, Stopped | SIGTERMException | KeyboardInterrupt | SystemExit):
        signum = keeper.signum or (signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT)
        return StoppedError(_where(keeper, signal.Signals(signum).name), signum)
    if isinstance(error, NonFinite):
        told = FailedError(f"{_born(error, report)}; {_kept(keeper)}; --on-nonfinite skip or ignore continue training")
        return told if is_first() else SystemExit(1)  # all processes have seen it, and one says so
    if is_gone:
        return FailedError(f"{folder} is gone: the run's folder was removed during training")
    if has_steps and _is_between_processes(error):
        return _lost(keeper)
    disk = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in _DISK), None)
    if disk is not None:
        return FailedError(f"{disk.strerror}: {disk.filename or folder}; {_kept(keeper)}")
    return error if has_steps else _refused(error, checkpoint)


def _is_between_processes(error: BaseException) -> bool:
    """Whether a collective operation failed because of another process."""
    if not dist.is_initialized() or dist.get_world_size() == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or bool(re.search(r"gloo|NCCL|[Cc]onnection (closed|reset)", str(error)))


def _lost(keeper: Keeper) -> BaseException:
    ranks, speaks = lost()
    if not speaks:
        return SystemExit(1)
    names = ", ".join(map(str, ranks)) or "another"
    return FailedError(f"the run lost its process of rank {names}; {_kept(keeper)}; --resume continues from there")


def _refused(error: BaseException, checkpoint: Path | None) -> BaseException:
    """The error to raise before the first step, when Lightning refuses an argument or the content of a checkpoint."""
    if checkpoint is not None and isinstance(error, Exception) and not isinstance(error, WrongInputError):
        return WrongInputError(f"{checkpoint} cannot be resumed: {one_line(error) or type(error).__name__}")
    try:
        with as_wrong_input():
            raise error
    except WrongInputError as told:
        return told
    except BaseException:
        return error


def _where(keeper: Keeper, name: str) -> str:
    if keeper.kept_step is None:
        return f"stopped by {name} before the first step; there is no checkpoint"
    return f"stopped by {name}; {keeper.path} is of step {keeper.kept_step}"


def _kept(keeper: Keeper) -> str:
    if keeper.kept_step is None:
        return "no checkpoint was written"
    return f"{keeper.path} is of step {keeper.kept_step}"


def _born(error: NonFinite, report: Report) -> str:
    """A sentence on where the NaN came from, as far as the findings tell."""
    found = [finding for finding in report.end.findings if finding.name == "nan"] if report.steps else []
    step = report.broken.step if report.broken is not None else error.step
    where = f": {found[0].evidence}" if found else ""
    try_ = f"; try {', '.join(found[0].remedies)}" if found and found[0].remedies else ""
    return f"the {error.what} is not finite in step {step}{where}{try_}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
