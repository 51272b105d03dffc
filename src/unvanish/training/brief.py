"""A configuration's repr: what differs from the defaults, as it would be typed."""

from dataclasses import MISSING, fields
from typing import Any


def brief(self: Any) -> str:
    """The repr of a dataclass without its defaults: ``Training(loss=Loss(name='mse'))``.

    A function, not a base class: jsonargparse takes a dataclass with a base class for a union, and hides its keys.
    """
    said = []
    for one in fields(self):
        value = getattr(self, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if value != default:
            said.append(f"{one.name}={value!r}")
    return f"{type(self).__name__}({', '.join(said)})"
