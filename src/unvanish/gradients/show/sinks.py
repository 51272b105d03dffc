"""Where a run's gradients are written: any logger, a file, and whatever keeps the protocol."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.report import as_dict, json_number, summary
from unvanish.gradients.record import Record


class Sink(Protocol):
    """What a monitor writes to: your own class with these three methods is one."""

    def write(self, record: Record, sums: Mapping[str, float], /) -> None:
        """Take in a step, with what sums it up, such as gradient/first_over_last; empty between full steps."""

    def tell(self, report: Report, /) -> None:
        """Take in the verdict on the steps so far: after the first ten, now and then, and at the end."""

    def close(self, report: Report, /) -> None:
        """Write what is left: there is no more to come."""


@final
class Metrics:
    """Any logger that has ``log_metrics(metrics, step)``, as all of Lightning's and Fabric's have.

    It gets the steps at which everything was measured, and of those between only the first whose gradient is NaN or
    infinite: a row of a table or a request for each would cost more than it tells. ``JsonLines`` has every step. NaN
    and infinity are logged as they are. In names, the + of a sum in the residual stream becomes ``_sum``, and every
    other character that some logger refuses becomes ``_``.

    Args:
        logger: The logger.
        everything: Whether it gets each layer's values as ``<quantity>/<layer>``, or the summary and the totals alone.
    """

    def __init__(self, logger: Any, *, everything: bool = False) -> None:
        self.logger = logger
        self.everything = everything
        self._was_finite = True

    def write(self, record: Record, sums: Mapping[str, float] | None = None, /) -> None:
        """Log a step."""
        breaks = self._was_finite and not record.is_finite
        self._was_finite = record.is_finite
        if not record.is_full and not breaks:
            return
        metrics = {f"gradient/{name.removeprefix('gradient_')}": value for name, value in record.totals.items()}
        metrics |= summary(record) if sums is None else sums
        if self.everything:
            metrics |= {f"{name}/{layer}": v for name, layers in record.values.items() for layer, v in layers.items()}
        self.logger.log_metrics({_accepted(name): value for name, value in metrics.items()}, step=record.step)

    def tell(self, report: Report, /) -> None:
        """Nothing: a metric is a number."""

    def close(self, report: Report, /) -> None:
        """Nothing: whoever has opened the logger closes it."""


@final
class JsonLines:
    """A file with a line of JSON for each step, and one for each verdict; NaN and infinity are the words nan and inf.

    In a raw loop::

        file = JsonLines("gradients.jsonl")
        for record in recorder.flush():
            file.write(record)

    Args:
        path: Of the file, which is opened when there is something to write.
        append: Whether to go on with what is there, or to begin anew.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self._path, self._mode = Path(path), "a" if append else "w"

    def write(self, record: Record, sums: Mapping[str, float] | None = None, /) -> None:
        """Append a step."""
        self._append(
            {
                "step": record.step,
                "time": record.time,
                **_numbers(record.totals),
                **_numbers(summary(record) if sums is None else sums),
                "values": {quantity: _numbers(layers) for quantity, layers in record.values.items()},
                "through_time": {layer: _numbers(norms) for layer, norms in record.through_time.items()},
            }
        )

    def tell(self, report: Report, /) -> None:
        """Append a verdict."""
        self._append({"step": report.last_step, **as_dict(report.end), "not_measured": report.notes})

    def close(self, report: Report, /) -> None:
        """Nothing: each line is complete."""

    def _append(self, line: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open(self._mode, encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self._mode = "a"


def _accepted(name: str) -> str:
    """A metric's name in the characters that every logger takes."""
    return re.sub(r"[^a-zA-Z0-9_/. -]", "_", name.replace("+", "_sum"))


def _numbers(values: Mapping[Any, float]) -> dict[str, float | str]:
    return {str(name): json_number(value) for name, value in values.items()}
