"""The one scale on which every gradient is drawn, so that two pictures can be compared: powers of ten."""

import math

#: Ends of the scale of |delta|, as log10: from what float32 loses to what explodes. What lies beyond is at the end.
LOWEST, HIGHEST = -18, 1


def place(value: float) -> float:
    """Where a number above 0 lies on the scale: 0 is its lower end, 1 its upper one."""
    share = (math.log10(value) - LOWEST) / (HIGHEST - LOWEST)
    return min(max(share, 0.0), 1.0)
