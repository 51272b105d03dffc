"""A whole small run as ``fit`` does it, beside scikit-learn's, and where its time goes."""

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Iterator
from cProfile import Profile
from pathlib import Path

import lightning as L
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.speed.row import Row, in_turns
from benchmarks.speed.where import shares, within
from unvanish.command.fit import fit
from unvanish.command.main import quieten
from unvanish.command.verbs import parser

EPOCHS, BATCH = 30, 64
#: As many samples as ``fit`` trains on.
SAMPLES = 1293
#: Of scikit-learn's time, and seconds.
TARGET = 2.0

RECIPE = f"""
model: {{class_path: unvanish.networks.MLP, hidden_sizes: [128, 128]}}
data: {{class_path: unvanish.data.Images, dataset: digits, loading: {{batch_size: {BATCH}}}}}
trainer: {{max_epochs: {EPOCHS}, accelerator: cpu}}
"""

#: Parts of a run that are of interest, by what they are done in; one may lie within another.
PARTS = {
    "training batches": ("training_epoch_loop.py", "advance"),
    "validations": ("evaluation_loop.py", "run"),
    "checkpoints": ("pytorch/trainer/trainer.py", "save_checkpoint"),
    "the monitor": ("adapters/session.py", "run"),
    "its report": ("adapters/session.py", "close"),
    "loggers": ("logger_connector.py", "log_metrics"),
    "table": ("command/progress.py", "on_train_epoch_end"),
    "confusion matrix": ("command/scores.py", "on_fit_end"),
}


class Clock(L.Callback):
    """Takes the time from the first step to the last report, as ``N s of training`` does."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile
        self.seconds = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self.start = time.perf_counter()
        if self.profile:
            self.profile.enable()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """End."""
        if self.profile:
            self.profile.disable()
        self.seconds = time.perf_counter() - self.start


def ours(*words: str, profile: Profile | None = None) -> float:
    """Seconds of training."""
    clock = Clock(profile)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        options, overrides = parser().parse_known_args(["fit", "-c", str(recipe), "--runs", folder, *words])
        with contextlib.redirect_stdout(io.StringIO()):
            quieten("stdout")
            fit(options, overrides, callbacks=[clock])
    return clock.seconds


def theirs() -> float:
    """Seconds of scikit-learn's, which neither validates nor keeps anything."""
    x, y = load_digits(return_X_y=True)
    network = MLPClassifier((128, 128), batch_size=BATCH, max_iter=EPOCHS, random_state=0, n_iter_no_change=EPOCHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        network.fit(x[:SAMPLES] / 16, y[:SAMPLES])
    return time.perf_counter() - start


def rows(root: Path) -> Iterator[Row]:
    """The time of a run, and its parts."""
    works = {"theirs": theirs, "no monitor": lambda: ours("--no-gradients"), "monitor on": ours}
    times = in_turns(works)
    for name, words in (("no monitor", ("--no-gradients",)), ("monitor on", ())):
        profile = Profile(time.process_time)
        ours(*words, profile=profile)
        note = f"of the profile: {within(profile, PARTS)}; by package: {shares(profile)}"
        title = f"digits, MLP 128-128, {EPOCHS} epochs of fit, {name}"
        yield Row(title, "MLPClassifier", times[name], times["theirs"], "s", TARGET, note)
