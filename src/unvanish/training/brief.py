"""A configuration's repr: what is not the default, as it would be typed."""

from dataclasses import MISSING, fields
from typing import Any


class Brief:
    """Base of dataclasses whose repr leaves defaults out: ``Training(loss=Loss(name='mse'))``."""

    def __repr__(self) -> str:
        said = []
        for one in fields(self):  # type: ignore[arg-type]
            value: Any = getattr(self, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if value != default:
                said.append(f"{one.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"
