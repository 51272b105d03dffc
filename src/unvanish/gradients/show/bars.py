"""|delta| by layer as bars of text, a character for about a power of ten."""

import math
from collections.abc import Mapping

from unvanish.gradients.layers import short_names
from unvanish.gradients.show.scale import HIGHEST, LOWEST, place

WIDTH = 20
#: More layers than these are not read one by one.
ROWS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(value: float, *, ascii_only: bool = False) -> str:
    """A bar of ``WIDTH`` characters on the scale of all runs; empty for what has no place there: 0, NaN, infinity."""
    eighths = round(8 * WIDTH * place(value)) if 0 < value < math.inf else 0
    whole, rest = divmod(eighths, 8)
    if ascii_only:
        return ("#" * (whole + (rest >= 4))).ljust(WIDTH)
    return ("█" * whole + _EIGHTHS[rest].strip()).ljust(WIDTH)


def bars(line: Mapping[str, float], *, layer: str = "", ascii_only: bool = False) -> list[str]:
    """A line for each layer, from the input to the loss, and above them one that says what the bars are.

    The first value and the last are printed, and what has no place on the scale. Of more than ``ROWS`` layers evenly
    spaced ones are shown, and that is said.

    Args:
        line: |delta| by layer, from the first layer to the last; none makes no lines. Or |dL/dh_t| by time.
        layer: Where the line is by time, of which layer it is.
        ascii_only: Whether the terminal has no blocks.
    """
    if not line:
        return []
    layers = list(line)
    count = min(ROWS, len(layers))
    chosen = [layers[round(k * (len(layers) - 1) / max(count - 1, 1))] for k in range(count)]
    names = short_names(layers)
    width = min(max(len(names[layer]) for layer in chosen), 24)
    some = f"; {count} of {len(layers)} layers, evenly spaced" if count < len(layers) else ""
    name = "|δ| = |∂L/∂z| by layer" if not layer else f"|∂L/∂h| by time, {layer}"
    head = f"{name}, log scale from 1e{LOWEST} to 1e{HIGHEST:+}{some}"
    lines = [head.replace("|δ| = ", "").replace("∂", "d") if ascii_only else head]
    for row in chosen:
        value = line[row]
        is_odd = value == 0 or not math.isfinite(value)
        said = "exactly 0" if value == 0 else f"{value:.1e}" if is_odd or row in (layers[0], layers[-1]) else ""
        lines.append(f"{names[row][-24:]:{width}}  {bar(value, ascii_only=ascii_only)}  {said}".rstrip())
    return lines
