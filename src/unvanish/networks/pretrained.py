"""Weights that a wrapped module begins with, by name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from unvanish.names import lookup
from unvanish.trust import resolve

_is_wanted = ContextVar("is_wanted", default=True)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build modules without them: those of a checkpoint take their place."""
    token = _is_wanted.set(False)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def pretrained(path: str, arguments: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The arguments of a module, with the weights that are asked for, downloaded.

    Args:
        path: Dotted path of a function of torchvision that builds a model.
        arguments: What it is called with; timm's ``pretrained`` among them is obeyed by timm.
        name: Of the weights; None for none.

    Raises:
        ValueError: torchvision has no weights for the module, none of this name, or they cannot be downloaded.
    """
    found = dict(arguments)
    if not _is_wanted.get():
        return found | ({"pretrained": False} if found.get("pretrained") else {})
    if name is None:
        return found
    if "weights" in found:
        raise ValueError("weights are given twice: as weights and in arguments")
    from torchvision.models import get_model_weights  # noqa: PLC0415 - a second, which only this needs

    factory = resolve(path, nn.Module, "module")
    try:
        known = get_model_weights(factory).__members__
    except ValueError as error:
        raise ValueError(
            f"weights are by name for torchvision's models alone, and {path!r} is none; an argument of its own may "
            "load some (timm: arguments.pretrained=true)"
        ) from error
    chosen: Any = lookup(f"weights of {path}", name, known)
    try:
        chosen.get_state_dict(progress=False)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        cache = Path(torch.hub.get_dir(), "checkpoints", chosen.url.rpartition("/")[2])
        raise ValueError(
            f"weights {name} of {path} could not be downloaded ({reason}); put the file there: {cache}"
        ) from error
    return found | {"weights": chosen}
