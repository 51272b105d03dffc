"""Errors that are answered in one line: wrong input, with exit code 2, and runs that failed or were stopped."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from unvanish.extras import MissingExtraError


class WrongInputError(Exception):
    """The user's input cannot be used; the message says what is wrong, where, and what was probably meant."""


class FailedError(Exception):
    """A run cannot go on; the message says why in one line. Exit code 1, as for any error."""


class PrunedError(FailedError):
    """A trial of a search is not worth going on with; the message says why in one line."""


class StoppedError(BaseException):
    """A run was told to stop, and its state is kept; the message says where, and how to resume.

    It derives from BaseException so that ``except Exception`` does not catch it.

    Args:
        message: One line.
        signum: The signal that stopped it; the exit code is 128 + signum.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def as_wrong_input(where: str = "") -> Iterator[None]:
    """Turn the errors that Python and its libraries raise for unusable values and files into a ``WrongInputError``."""
    try:
        yield
    except BrokenPipeError:  # of our own output, not of a file
        raise
    except (ValueError, OSError, MissingExtraError) as error:
        raise WrongInputError(where + one_line(error)) from error
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's, whose import would load torch
            raise
        raise WrongInputError(where + one_line(error)) from error


def one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return re.sub(r"\s+", " ", str(error)).strip()
