"""Training programs as facts: how they are read, and what is recorded of each."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Facts = Mapping[str, Any]
#: Words for the causes of a fault, as the cases use them.
CAUSES = (
    "activation",
    "depth",
    "initialization",
    "learning_rate",
    "preprocessing",
    "labels",
    "output_layer",
    "loss",
    "optimizer",
    "regularization",
    "epochs",
    "layers",
    "zero_grad_missing",
)
#: Metrics of which more is better; they are shares.
SHARES = ("accuracy", "rounded_accuracy")


class NotHereError(Exception):
    """Why a case cannot be run here."""


def load(folder: Path) -> list[Facts]:
    """The cases of all YAML files of a folder, each with the name of its file as ``file``.

    Raises:
        ValueError: two cases have the same id, or a file is no list of cases.
    """
    found: dict[str, Facts] = {}
    for path in sorted(folder.glob("*.yaml")):
        cases = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(cases, list) or not all(isinstance(case, dict) and "id" in case for case in cases):
            raise ValueError(f"{path} is no list of cases, each with an id")
        for case in cases:
            if case["id"] in found:
                raise ValueError(f"{path} has a second case {case['id']}")
            found[case["id"]] = {"file": path.stem, "family": path.stem, "faulty": False} | case
    return list(found.values())


def at(case: Facts, *path: str) -> Any:
    """What lies at a path of fields; None where a field is absent or null."""
    value: Any = case
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value


def counts(case: Facts) -> bool:
    """Whether it is known what this case is: a fault that was confirmed, or a healthy run that learns; once each."""
    return not case.get("same_as") and at(case, "confirmed", "value") == ("yes" if case["faulty"] else "learns")


def is_held_out(family: str) -> bool:
    """One half of the families, as a hash has it, so that nobody has chosen it."""
    return hashlib.sha256(family.encode()).digest()[-1] % 2 == 1


def learns(case: Facts, value: float) -> bool | None:
    """Whether a run came near the metric recorded for a healthy one; None where none is recorded.

    Near is less than 5 points of a share below it; of an error, less than a quarter, or 0.01 in sum, above it.
    """
    wanted = recorded(case)
    if wanted is None:
        return None
    if not math.isfinite(value):
        return False
    return value > wanted - 0.05 if case.get("metric") in SHARES else value < 1.25 * wanted + 0.01


def recorded(case: Facts) -> float | None:
    """The metric that a healthy run has come to: of a faulty case its repaired twin, else the case itself."""
    found: float | None = at(case, "confirmed", "fixed_metric")
    return at(case, "confirmed", "metric_value") if found is None else found


def pairs(cases: Iterable[Facts]) -> list[tuple[str, str]]:
    """The faulty programs of which the published correction is a case as well."""
    by_id = {case["id"]: case for case in cases}
    found = ((name, at(case, "fix", "case")) for name, case in by_id.items() if case["faulty"])
    return [(faulty, corrected) for faulty, corrected in found if corrected in by_id]
