"""Where a run's gradients are written: any logger, a file, and whatever keeps the protocol."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.report import as_dict, json_number
from unvanish.gradients.record import Record


class Sink(Protocol):
    """What a monitor writes to."""

    def write(self, record: Record, summary: Mapping[str, float]) -> None:
        """Take in a step, with what sums it up, such as gradient/first_over_last."""

    def tell(self, report: Report) -> None:
        """Take in the verdict on the steps so far: after the first ten, and at the end."""

    def close(self, report: Report) -> None:
        """Write what is left: there is no more to come."""


@final
class Metrics:
    """Any logger that has ``log_metrics(metrics, step)``, as all of Lightning's have.

    Args:
        logger: The logger.
        everything: Whether it gets each layer's values as ``<quantity>/<layer>``, or the summary and the totals alone.
    """

    def __init__(self, logger: Any, *, everything: bool = False) -> None:
        self.logger = logger
        self.everything = everything

    def write(self, record: Record, summary: Mapping[str, float]) -> None:
        """Log a step at which everything was measured."""
        if not record.is_full:
            return
        metrics = {f"gradient/{name.removeprefix('gradient_')}": value for name, value in record.totals.items()}
        metrics |= summary
        if self.everything:
            metrics |= {f"{name}/{layer}": v for name, layers in record.values.items() for layer, v in layers.items()}
        self.logger.log_metrics(metrics, step=record.step)

    def tell(self, report: Report) -> None:
        """Nothing: a metric is a number."""

    def close(self, report: Report) -> None:
        """Nothing: whoever has opened the logger closes it."""


@final
class JsonLines:
    """A file with a line of JSON for each step, and one for each verdict.

    Args:
        path: Of the file; it is begun anew.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("", encoding="utf-8")

    def write(self, record: Record, summary: Mapping[str, float]) -> None:
        """Append a step."""
        self._append(
            {
                "step": record.step,
                "time": record.time,
                **_numbers(record.totals),
                **_numbers(summary),
                "values": {quantity: _numbers(layers) for quantity, layers in record.values.items()},
                "through_time": {layer: _numbers(norms) for layer, norms in record.through_time.items()},
            }
        )

    def tell(self, report: Report) -> None:
        """Append a verdict."""
        self._append({"step": report.last_step, **as_dict(report.end), "not_measured": report.notes})

    def close(self, report: Report) -> None:
        """Nothing: each line is complete."""

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def _numbers(values: Mapping[Any, float]) -> dict[str, float | str]:
    return {str(name): json_number(value) for name, value in values.items()}
