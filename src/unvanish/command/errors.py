"""Wrong input is answered in one line, and with exit code 2."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


class WrongInputError(Exception):
    """What the user gave cannot be used; the message says what is wrong, where, and what was meant."""


@contextmanager
def as_wrong_input(where: str = "") -> Iterator[None]:
    """Turn what Python and its libraries raise for unusable values and files into one line."""
    try:
        yield
    except (ValueError, OSError) as error:
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
