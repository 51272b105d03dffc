"""Numbers by layer and step, two bytes each: small enough to mail, quick enough for a browser."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

#: Levels between the lowest and the highest number; the codes above them are none of the scale.
LEVELS = 65_531
MISSING, ZERO, NAN, INFINITE = 65_532, 65_533, 65_534, 65_535


class Packed(TypedDict):
    """A matrix in what JSON knows.

    Args:
        title: Of the quantity.
        log: Whether the numbers are logarithms to the base of ten.
        layers: Of the rows, from the input.
        steps: Of the columns.
        low: What code 0 stands for.
        high: What code 65,531 stands for; 65,532 is not measured, 65,533 exactly 0 (of a logarithm), 65,534 NaN,
            65,535 infinite.
        data: The codes row by row, unsigned 16-bit integers, the low byte first, in base64.
    """

    title: str
    log: bool
    layers: list[str]
    steps: list[int]
    low: float
    high: float
    data: str


def packed(
    title: str,
    rows: Mapping[str, Mapping[int, float]],
    *,
    log: bool,
    is_log_already: bool = False,
) -> Packed:
    """Pack numbers by layer and step.

    Args:
        title: Of the quantity.
        rows: By layer, from the input, the number at each step; what was not measured is left out.
        log: Whether logarithms are drawn.
        is_log_already: Whether the numbers are logarithms, of which that of 0 is -inf.
    """
    columns = sorted({step for row in rows.values() for step in row})
    place = {step: index for index, step in enumerate(columns)}
    values, codes = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), MISSING, "<u2")
    for index, row in enumerate(rows.values()):
        known = [(place[step], value) for step, value in row.items() if step in place]
        where = [column for column, _ in known]
        values[index, where] = [value for _, value in known]
        codes[index, where] = 0
    there = codes == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values) if log and not is_log_already else values
    finite = there & np.isfinite(logs)
    low, high = (float(logs[finite].min()), float(logs[finite].max())) if finite.any() else (0.0, 0.0)
    codes[finite] = np.round((logs[finite] - low) / ((high - low) or 1.0) * LEVELS)
    codes[there & np.isnan(logs)] = NAN
    codes[there & np.isinf(logs)] = INFINITE
    if log:
        codes[there & (logs == -np.inf)] = ZERO
    data = _encoded(codes)
    return Packed(title=title, log=log, layers=list(rows), steps=columns, low=low, high=high, data=data)


def unpacked(matrix: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """The other way: logarithms where those were packed, -inf for that of 0."""
    codes = _codes(matrix)
    low, high = matrix["low"], matrix["high"]
    special = {ZERO: -np.inf, NAN: np.nan, INFINITE: np.inf}
    return {
        layer: {
            step: special.get(int(code), low + (high - low) * int(code) / LEVELS)
            for step, code in zip(matrix["steps"], row, strict=True)
            if code != MISSING
        }
        for layer, row in zip(matrix["layers"], codes, strict=True)
    }


def joined(parts: Sequence[Packed]) -> Packed:
    """Matrices of one quantity at one step after another as one; layers as they come, steps in order."""
    layers = list(dict.fromkeys(layer for part in parts for layer in part["layers"]))
    place = {layer: row for row, layer in enumerate(layers)}
    ranges = [(part["low"], part["high"]) for part in parts if (_codes(part) <= LEVELS).any()]
    low, high = min((low for low, _ in ranges), default=0.0), max((high for _, high in ranges), default=0.0)
    pieces = []
    for part in parts:
        codes = _codes(part)
        values = part["low"] + (part["high"] - part["low"]) * codes / LEVELS
        moved = np.where(codes <= LEVELS, np.round((values - low) / ((high - low) or 1.0) * LEVELS), codes)
        piece = np.full((len(layers), len(part["steps"])), MISSING, "<u2")
        piece[[place[layer] for layer in part["layers"]]] = moved
        pieces.append(piece)
    steps = [step for part in parts for step in part["steps"]]
    order = np.argsort(steps, kind="stable")
    data = _encoded(np.hstack(pieces)[:, order])
    found = {"layers": layers, "steps": [steps[index] for index in order], "low": low, "high": high, "data": data}
    return Packed(**{**parts[0], **found})  # type: ignore[typeddict-item]


def row_of(matrix: Packed, layer: str) -> Packed:
    """Of a matrix one layer."""
    row = _codes(matrix)[matrix["layers"].index(layer)]
    return {**matrix, "layers": [layer], "data": _encoded(row)}


def _encoded(codes: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(codes).tobytes()).decode("ascii")


def _codes(matrix: Mapping[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(matrix["data"]), "<u2").reshape(len(matrix["layers"]), -1)


def evenly(steps: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the steps, evenly spaced, the first and the last among them."""
    if len(steps) <= count or count < 2:
        return list(steps[: max(count, 1)])
    return [steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count)]


def thinned(matrix: Packed, columns: int) -> Packed:
    """The same with at most so many steps, evenly spaced."""
    codes = _codes(matrix)
    kept = evenly(range(len(matrix["steps"])), columns)
    data = _encoded(codes[:, kept])
    return {**matrix, "steps": [matrix["steps"][index] for index in kept], "data": data}
