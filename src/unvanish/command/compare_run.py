"""One run of a comparison: a variant trained with one seed, and what is kept of it."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, final

import lightning as L

from unvanish.command.checkpoints import checkpoint_of, load_weights
from unvanish.command.compare_deltas import keep_deltas
from unvanish.command.compare_progress import Step, Teller
from unvanish.command.errors import WrongInputError, one_line
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import CONFIG, Recipe
from unvanish.command.run import train
from unvanish.command.run_folder import emptied_run
from unvanish.command.splits import has_test_split
from unvanish.command.threads import restored_threads
from unvanish.gradients import Report
from unvanish.gradients.judge.report import json_number

RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """What came of a run; NaN is what was not measured.

    Args:
        variant: The variant's name.
        seed: Of the weights, dropout and the order of the batches.
        error: Why the run has failed, in one line; empty where it has not.
        test: The task's metric on the test split, by the best checkpoint; by the last weights where none is kept.
        validation: The best value of the metric on the validation split.
        first_over_last_start: |delta| of the first layer over that of the last, in the first ten steps.
        first_over_last_end: The same in the last ten steps at which everything was measured.
        factor_per_layer: By how much |delta| changes from a layer to the one before it, in the same.
        early_over_late_start: |dL/dh_t| (of an LSTM, of h and its cell) of the first time step over that of the last,
            of the first recurrent layer in the tenth step.
        early_over_late_end: The same in the last step at which it was measured.
        first_update_ratio: |update| / |weight| of the first layer, in the first ten steps.
        noise_scale: The gradient noise scale in samples, over the second half of the steps.
        verdict: On the last ten steps at which everything was measured, after that on the first ten where they differ.
        parameters: Numbers that are trained.
        steps: Of the optimizer.
        seconds: Time of the training, validation included.
        seconds_per_epoch: The same for as many steps as an epoch has.
        curve: At each validation the ``step``, the ``seconds`` since the start and the metrics.
    """

    variant: str
    seed: int
    error: str = ""
    test: float = math.nan
    validation: float = math.nan
    first_over_last_start: float = math.nan
    first_over_last_end: float = math.nan
    factor_per_layer: float = math.nan
    early_over_late_start: float = math.nan
    early_over_late_end: float = math.nan
    first_update_ratio: float = math.nan
    noise_scale: float = math.nan
    verdict: str = ""
    parameters: int = 0
    steps: int = 0
    seconds: float = math.nan
    seconds_per_epoch: float = math.nan
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, float]:
        """The metric on the splits that there are."""
        both = {"test": self.test, "validation": self.validation}
        return {name: value for name, value in both.items() if not math.isnan(value)}

    def as_dict(self) -> dict[str, Any]:
        """In what JSON knows."""
        values = asdict(self) | {"curve": [{k: json_number(v) for k, v in point.items()} for point in self.curve]}
        return {key: json_number(value) if isinstance(value, float) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The other way."""
        numbers = {
            key: float(value)  # "nan" is one
            for key, value in values.items()
            if cls.__dataclass_fields__[key].type is float
        }
        curve = [{key: float(value) for key, value in point.items()} for point in values["curve"]]
        return cls(**values | numbers | {"curve": curve})


def parse(recipe: Recipe, overrides: Sequence[str]) -> Experiment:
    """A recipe on one device: Lightning would start the whole command anew for a second one."""
    experiment = Experiment.parse(recipe, [*overrides])
    trainer = experiment.arguments.trainer
    if trainer.devices not in ("auto", "1", 1):
        raise WrongInputError(f"compare trains each run on one device; trainer.devices is {trainer.devices}")
    trainer.devices = 1
    return experiment


@dataclass(frozen=True)
class Run:
    """A variant with a seed, before it is trained.

    Args:
        variant: The variant's name.
        seed: Over that of the recipe.
        recipe: What is trained.
        overrides: What was typed over it.
        parent: The comparison's folder.
        differing: In which columns of TensorBoard's HPARAMS page the variants differ.
    """

    variant: str
    seed: int
    recipe: Recipe
    overrides: tuple[str, ...]
    parent: Path
    differing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name on a live line."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run is kept, and its name in TensorBoard."""
        return self.parent / self.variant / f"seed{self.seed}"

    def experiment(self) -> Experiment:
        """What is trained."""
        return parse(self.recipe, [*self.overrides, f"--seed={self.seed}"])

    def kept(self) -> Result | None:
        """The result of the very same run, if it is there."""
        try:
            same = (self.folder / CONFIG).read_text(encoding="utf-8") == self.experiment().resolved()
            return Result.from_dict(json.loads((self.folder / RESULT).read_text(encoding="utf-8"))) if same else None
        except (FileNotFoundError, KeyError, TypeError, ValueError):  # or of another version of this package
            return None

    @property
    def is_replaced(self) -> bool:
        """Whether there is the result of another configuration in its place."""
        return (self.folder / RESULT).is_file() and self.kept() is None

    def train(self, tell: Callable[[Step], Any] | None = None) -> Result:
        """Train, test and keep the result; a failure is one too, but is not kept.

        Args:
            tell: Is told how far it has come.
        """
        emptied_run(self.folder)  # of an interrupted run, or another one of this name
        try:
            with restored_threads():
                result = self._trained(tell)
        except Exception as error:  # the other runs are worth their time all the same
            return Result(self.variant, self.seed, one_line(error) or type(error).__name__)
        unfinished = self.folder / f"{RESULT}.unfinished"
        unfinished.write_text(json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.rename(self.folder / RESULT)
        return result

    def _trained(self, tell: Callable[[Step], Any] | None) -> Result:
        experiment = self.experiment()
        built = experiment.build()
        metric, mode = built.model.objective
        curve = LearningCurve()
        built.trainer_options["callbacks"] += [curve, *([Teller(self.label, tell)] if tell else [])]
        run = train(experiment, built, self.folder, gradients=True, quiet=True, differing=self.differing)
        keep_deltas(run.report, self.folder)
        trainer, steps = run.trainer, run.trainer.global_step
        steps_per_epoch = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        if any(self.folder.glob("checkpoints/*.ckpt")):
            load_weights(checkpoint_of(self.folder), built.model)
        test = math.nan
        if has_test_split(built.data):
            (metrics,) = trainer.test(built.model, built.data, verbose=False)
            test = metrics[f"test/{metric}"]
        best = max if mode == "max" else min
        validated = [point.get(f"val/{metric}", math.nan) for point in curve.points]
        return Result(
            self.variant,
            self.seed,
            test=test,
            validation=best((value for value in validated if not math.isnan(value)), default=math.nan),
            **_of_gradients(run.report),
            parameters=sum(p.numel() for p in built.model.parameters() if p.requires_grad),
            steps=steps,
            seconds=run.seconds,
            seconds_per_epoch=run.seconds * steps_per_epoch / (steps or math.nan),
            curve=curve.points,
        )


def _of_gradients(report: Report) -> dict[str, Any]:
    """What a result says of them."""
    start, end = report.start, report.end
    values = report.as_dict()
    layers, times = values["layers"], values["through_time"]
    return {
        "first_over_last_start": start.first_over_last,
        "first_over_last_end": end.first_over_last,
        "factor_per_layer": end.factor_per_layer,
        "early_over_late_start": _early_over_late(times.get("start", {})),
        "early_over_late_end": _early_over_late(times.get("end", {})),
        "first_update_ratio": float(layers[0].get("update_ratio", {}).get("start", "nan")) if layers else math.nan,
        "noise_scale": report.noise_scale,
        "verdict": end.name if start.name == end.name else f"{start.name} then {end.name}",
    }


def _early_over_late(times: dict[str, dict[str, float | str]]) -> float:
    """Of |dL/dh_t| by layer and t; NaN where there is none."""
    for norms in times.values():
        early, late = float(norms[min(norms, key=int)]), float(norms[max(norms, key=int)])
        return early / late if late else math.nan
    return math.nan


@final
class LearningCurve(L.Callback):
    """The metrics at every validation, with the step and the time since training began."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self._start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point; the one before training, a check of Lightning's, is none."""
        if not trainer.sanity_checking:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            elapsed = time.perf_counter() - self._start
            self.points.append({"step": trainer.global_step, "seconds": elapsed, **values})
