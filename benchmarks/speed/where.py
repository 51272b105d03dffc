"""Where the time of some work goes: by package, and within chosen functions.

A profile makes calls in Python two to three times as slow, so that torch's share is more than it shows.
"""

import pstats
from collections import defaultdict
from cProfile import Profile
from pathlib import Path

_PLACES = ("unvanish/command", "unvanish/gradients", "unvanish/training", "unvanish/data", "unvanish/networks")
_PACKAGES = ("lightning", "lightning_utilities", "torchmetrics", "tensorboard", "torch", "matplotlib", "jsonargparse")


def shares(profile: Profile) -> str:
    """Of each package; what is built in counts for the package that has called it."""
    found: dict[str, float] = defaultdict(float)
    for (path, _, _), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if path == "~":
            for (caller, _, _), (_, _, seconds, _) in callers.items():
                found[_package(caller)] += seconds
        else:
            found[_package(path)] += own
    whole = sum(found.values())
    most = sorted(((seconds / whole, name) for name, seconds in found.items()), reverse=True)
    return ", ".join(f"{name} {100 * share:.0f} %" for share, name in most if share > 0.02)


def within(profile: Profile, functions: dict[str, tuple[str, str]]) -> str:
    """Of functions, each by the end of its file's path and its name, with all that they call."""
    stats = pstats.Stats(profile)
    whole = stats.total_tt  # type: ignore[attr-defined]
    found = []
    for title, (end, name) in functions.items():
        seconds = max(
            (
                both
                for (path, _, called), (_, _, _, both, _) in stats.stats.items()  # type: ignore[attr-defined]
                if called == name and path.endswith(end)
            ),
            default=0.0,
        )
        found.append(f"{title} {100 * seconds / whole:.0f} %")
    return ", ".join(found)


def _package(path: str) -> str:
    for place in _PLACES:
        if place in path:
            return place
    parts = Path(path).parts
    return next((name for name in _PACKAGES if name in parts), "Python")
