"""Ten recipes' losses over 20 steps, and delta by layer in the last of them, in float64 on one thread, held to a file.

It shows that a change of code leaves the numbers alone: they are equal to the last bit where torch's version and the
processor's instructions are those of the file, and to 1e-9 elsewhere; the deltas of moving pictures to 1e-4.
"""

import argparse
import json
import logging
import math
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from unvanish.command import recipes
from unvanish.command.experiment import Experiment

KEPT = Path(__file__).with_suffix(".json")
STEPS = 20
CLOSE = 1e-9
#: A digit that moves gives the same numbers at several places, and which is the largest there is a matter of rounding:
#: max pooling sends the gradient to another of them where the processor has other instructions.
TIED, CLOSE_IF_TIED = "cnn/clips", 1e-4
TEXT = "the gradient of a deep sigmoid network is small where it begins and no layer there learns from it"

#: By recipe, what is changed of it so that it is small.
RECIPES: dict[str, dict[str, object]] = {
    "mlp/digits": {},
    "mlp/deep_sigmoid": {},
    "mlp/breast_cancer": {},
    "mlp/diabetes": {},
    "cnn/digits": {"model.channels": [8, 16], "data.augmentation.crop": 1},
    "cnn/clips": {"model.channels": [4, 8], "data.clips": 500, "data.validation_clips": 50, "data.test_clips": 50},
    "recurrent/adding_gru": {"data.length": 20, "data.samples": 2000, "data.validation_samples": 50},
    "recurrent/sunspots": {},
    "recurrent/text": {"model.hidden_size": 16, "data.context_length": 16, "data.path": "TEXT"},
    "transformer/digits": {"model.embedding_dim": 16, "model.num_layers": 2},
}

Measured = dict[str, dict[str, Any]]


def measure(name: str) -> dict[str, Any]:
    """The ``loss`` of each step, and ``delta``, the norm of dL/dz by layer in the last one."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text(
            " ".join(np.random.default_rng(0).choice(TEXT.split(), 2000))
        )  # Python's own text differs by version
        values = {key: str(text) if value == "TEXT" else value for key, value in RECIPES[name].items()}
        trainer = {"precision": "64-true", "max_steps": STEPS, "limit_val_batches": 0, "accelerator": "cpu"}
        changes = values | {f"trainer.{key}": value for key, value in trainer.items()}
        words = [f"--{key}={value}" for key, value in changes.items()]
        built = Experiment.parse(recipes.load([name]), words).build()
    kept = _Kept()
    built.monitor.verbose = False
    built.monitor.every_n_steps, built.monitor.sinks = 1, [kept]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings(action="ignore"):  # Lightning's advice
        L.Trainer(**built.trainer_options | quiet | {"callbacks": [built.monitor, kept]}).fit(built.model, built.data)
    return {"loss": kept.losses, "delta": kept.delta}


class _Kept(L.Callback):
    """A sink of the monitor for delta, and a callback for the loss, which no logger gets in full."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.delta: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())

    def write(self, record: Any, sums: Any) -> None:
        self.delta = record.values["delta_norm"]

    def tell(self, report: Any) -> None:
        pass

    def close(self, report: Any) -> None:
        pass


def machine() -> dict[str, str]:
    """On what the last bit depends."""
    return {"torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def differences(kept: Measured, found: Measured, *, exact: bool) -> list[str]:
    """A line for each number that is not what was kept."""
    lines = []
    for name, numbers in found.items():
        pairs = {"loss": dict(enumerate(kept[name]["loss"], 1)), "delta": kept[name]["delta"]}
        for what, old in pairs.items():
            new = dict(enumerate(numbers["loss"], 1)) if what == "loss" else numbers["delta"]
            close = CLOSE_IF_TIED if (name, what) == (TIED, "delta") else CLOSE
            for place in old | new:
                a, b = old.get(place), new.get(place)
                same = a == b if exact or None in (a, b) else math.isclose(a, b, rel_tol=close)
                if not same:
                    lines.append(f"{name}: {what} {place} was {a} and is {b}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the numbers as they are now")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    found = {name: measure(name) for name in RECIPES}
    if options.write:
        KEPT.write_text(json.dumps(machine() | {"recipes": found}, indent=1) + "\n")
        print(f"{len(found)} recipes are kept in {KEPT.name}")
        return 0
    kept = json.loads(KEPT.read_text())
    exact = machine() == {key: kept[key] for key in machine()}
    lines = differences(kept["recipes"], found, exact=exact)
    how = "to the last bit" if exact else f"to {CLOSE}: they were kept on {kept['torch']}, {kept['instructions']}"
    print("\n".join(lines) if lines else f"{len(found)} recipes have the numbers that were kept, {how}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
