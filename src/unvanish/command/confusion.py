"""The confusion matrix as a picture."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from unvanish.gradients.show.canvas import Canvas, width_of
from unvanish.training import Scores

_MOST_CLASSES, _MOST_NUMBERS = 50, 20
_GAP, _TICK, _TITLE = 8, 15, 17
#: The darkest blue on which black numbers can be read.
_DARKEST = 0.6


def confusion_picture(scores: Scores, class_names: Sequence[str] | None) -> bytes | None:
    """A PNG with a row for each true class and a column for each predicted one; None for no classes, or over 50."""
    count = len(scores.confusion)
    if not 0 < count <= _MOST_CLASSES:
        return None
    counts = np.array(scores.confusion)
    names = [name if len(name) <= 20 else f"{name[:17]}..." for name in class_names or map(str, range(count))]
    has_numbers = count <= _MOST_NUMBERS
    cell = max(44, round(width_of(str(counts.max()), _TICK)) + 2 * _GAP) if has_numbers else 18
    longest = round(max(width_of(name, _TICK) for name in names))
    margin = longest + _TITLE + 4 * _GAP
    side = count * cell
    canvas = Canvas(margin + side + 2 * _GAP, 2 * _GAP + side + margin, 1)
    left, top = margin, 2 * _GAP
    shares = counts / max(1, counts.max())
    canvas.cells(mpl.colormaps["Blues"](_DARKEST * shares, bytes=True), left, top, left + side, top + side)
    for i, name in enumerate(names):
        middle = round((i + 0.5) * cell)
        canvas.text(left - _GAP, top + middle, name, "rm", size=_TICK)
        if longest <= cell:
            canvas.text(left + middle, top + side + _GAP, name, "mt", size=_TICK)
        else:
            canvas.text(left + middle, top + side + _GAP, name, "rm", size=_TICK, angle=90)
        for j in range(count if has_numbers else 0):
            canvas.text(left + (j + 0.5) * cell, top + middle, str(counts[i, j]), "mm", size=_TICK)
    canvas.line([(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)], "black")
    canvas.text(left + side / 2, canvas.height - _TITLE, "answered", "mm", size=_TITLE)
    canvas.text(_TITLE, top + side / 2, "true class", "mm", size=_TITLE, angle=90)
    return canvas.png()
