"""Where the time of some work goes, by package."""

import pstats
from collections import defaultdict
from cProfile import Profile
from pathlib import Path

_PLACES = ("unvanish/command", "unvanish/gradients", "unvanish/training", "unvanish/data", "unvanish/networks")
_PACKAGES = ("lightning", "lightning_utilities", "torchmetrics", "tensorboard", "torch", "rich", "numpy")


def shares(profile: Profile) -> dict[str, float]:
    """Seconds in each package, the most first; what is built in counts for the package that has called it.

    The profile itself makes calls in Python two to three times as slow, so that torch's share is more than it shows.
    """
    found: dict[str, float] = defaultdict(float)
    for (path, _, _), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if path == "~":
            for (caller, _, _), (_, _, seconds, _) in callers.items():
                found[_package(caller)] += seconds
        else:
            found[_package(path)] += own
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def note(profile: Profile) -> str:
    """The shares in one line."""
    found = shares(profile)
    whole = sum(found.values())
    return ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in found.items() if seconds > whole / 50)


def _package(path: str) -> str:
    for place in _PLACES:
        if place in path:
            return place
    parts = Path(path).parts
    return next((name for name in _PACKAGES if name in parts), "Python")
