"""Libraries that only some data or devices need: the extras of ``pip install 'unvanish[...]'``."""

from importlib import import_module
from typing import Any

#: By library, the extra that brings it.
EXTRAS = {"av": "video", "pyarrow": "parquet", "safetensors": "sharded", "tokenizers": "text"}


class MissingExtraError(ModuleNotFoundError):
    """A library of an extra is not installed; the message says how to."""


def extra(library: str) -> Any:
    """Import a library of an extra.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{library} is not installed, which this needs: pip install 'unvanish[{EXTRAS[library]}]'", name=library
        ) from error
