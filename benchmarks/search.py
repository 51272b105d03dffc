"""What pruning by the verdict is worth in a search: ``python -m benchmarks.search``, which writes
benchmarks/SEARCH.md.

Each trial is trained once and to its end. From its validations it is known when Optuna's MedianPruner would have
stopped it, from its gradients when the verdict would have, and from both when both together: so all are judged by the
same trials, and it is seen what those that are stopped would have come to.
"""

import argparse
import contextlib
import itertools
import math
import os
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import lightning as L
import optuna

from unvanish.command.fit import fit
from unvanish.command.main import answered, quieten
from unvanish.command.result import Result
from unvanish.command.search.pruners import STARTUP, WARMUP
from unvanish.command.search.space import space_of, suggested
from unvanish.command.verbs import parser
from unvanish.gradients import GradientMonitor
from unvanish.gradients.judge.pruning import MOMENTS, hopeless

PAGE = Path(__file__).with_name("SEARCH.md")
#: The pruners' settings were chosen on the searches before this one.
FIRST = 10
RATE = "model.training.optimizer.learning_rate"
HEADS = (
    *("recipe and what is searched", "pruner", "best score", "reached by", "steps", "share of the steps", "seconds"),
    *("stopped", "winners stopped", "best place of one that was stopped"),
)


class Case(NamedTuple):
    """A recipe, what is fixed of it, and what is searched."""

    recipe: str
    fixed: tuple[str, ...]
    space: tuple[str, ...]


CASES = {
    "MLP on digits: depth, activation, learning rate": Case(
        "mlp/digits",
        ("--trainer.max_epochs=10", "--model.hidden_sizes=64"),
        ("model.num_layers=1..30", "model.activation=relu,tanh,sigmoid", f"{RATE}=1e-5..1,log"),
    ),
    "sigmoid MLP that vanishes: initialization, normalization, shortcuts, learning rate": Case(
        "mlp/deep_sigmoid",
        ("--trainer.max_epochs=10",),
        (
            "model.initialization=default,xavier_normal",
            "model.normalization=none,batch,layer",
            "model.residual=true,false",
            f"{RATE}=1e-5..1,log",
        ),
    ),
    "recurrent network on the adding problem: cell, size, learning rate": Case(
        "recurrent/adding_lstm",
        ("--data.samples=12000", "--data.length=30", "--trainer.val_check_interval=40"),
        ("model.cell=rnn,lstm,gru", "model.hidden_size=8..64,log", f"{RATE}=1e-5..1,log"),
    ),
}


class Watch(L.Callback):
    """Notes when the verdict would have stopped a trial, as ``VerdictPruner`` does."""

    def __init__(self) -> None:
        self.looked, self.step = 0, math.inf

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        (monitor,) = (callback for callback in callbacks if isinstance(callback, GradientMonitor))
        if self.looked < len(MOMENTS) and monitor.report.steps >= MOMENTS[self.looked]:
            self.looked += 1
            if hopeless(monitor.report):
                self.step = min(self.step, trainer.global_step)


class Trial(NamedTuple):
    """A trial that was trained to its end.

    Args:
        result: Of the run.
        verdict: The step at which the verdict would have stopped it; infinite where it would not.
    """

    result: Result
    verdict: float


def trained(case: Case, values: dict[str, Any], folder: Path) -> Trial:
    """Train one."""
    options = parser().parse_args(["fit", "-c", case.recipe, f"--runs={folder}"])
    watch = Watch()
    keys = [*case.fixed, *(f"--{key}={value}" for key, value in values.items())]
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        code = answered(lambda: fit(options, keys, callbacks=[watch]))
    if code not in (0, 1):  # 1 is a trial that has failed, which counts; one that was interrupted does not
        raise RuntimeError(f"{case.recipe} with {keys} has ended with exit code {code}")
    (run,) = folder.rglob("result.json")
    return Trial(Result.read(run.parent), watch.step)


def by_median(trials: list[Trial], startup: int = 5, warmup: float = 0.0, *, sees_verdict: bool = False) -> list[float]:
    """The step at which Optuna's MedianPruner stops each; infinite where it does not.

    Args:
        trials: In their order.
        startup: How many come to their end before one is stopped.
        warmup: Share of the steps before which none is.
        sees_verdict: Whether the verdict stops them as well.
    """
    direction = "maximize" if trials[0].result.mode == "max" else "minimize"
    first = int(warmup * max(trial.result.steps for trial in trials))
    study = optuna.create_study(direction=direction, pruner=optuna.pruners.MedianPruner(startup, first))
    steps = []
    for trial in trials:
        asked, step = study.ask(), trial.verdict if sees_verdict else math.inf
        for point in trial.result.curve:
            if point["step"] >= step:
                break
            asked.report(point[f"val/{trial.result.metric}"], point["step"])
            if asked.should_prune():
                step = point["step"]
                break
        if math.isfinite(step) or math.isnan(trial.result.validation):
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(asked, trial.result.validation)
        steps.append(step)
    return steps


def in_hindsight(searches: list[list[Trial]]) -> list[list[float]]:
    """The step at which each is stopped by the best rule that goes by ranks and loses no winner, which none can know.

    All trials of a search are trained side by side. At each validation as many of the best are kept as are needed where
    the later winner is furthest behind, in any of the searches.
    """
    all_ranks = []
    for trials in searches:
        metric, sign = trials[0].result.metric, 1 if trials[0].result.mode == "max" else -1
        last = max(len(trial.result.curve) for trial in trials)
        bests = []
        for trial in trials:
            scores = [sign * point[f"val/{metric}"] for point in trial.result.curve]
            best = [*itertools.accumulate((-math.inf if math.isnan(score) else score for score in scores), max)]
            bests.append([*best, *[-math.inf] * (last - len(best))])  # one that has failed is last
        moments = [*zip(*bests, strict=True)]
        all_ranks.append([[1 + sum(other > one for other in moment) for one in moment] for moment in moments])
    behind: list[int] = []
    for trials, ranks in zip(searches, all_ranks, strict=True):
        sign = 1 if trials[0].result.mode == "max" else -1
        scores = [sign * trial.result.validation for trial in trials]
        winner = max(range(len(trials)), key=lambda i: -math.inf if math.isnan(scores[i]) else scores[i])
        places = [moment[winner] for moment in ranks]
        behind = [max(pair) for pair in itertools.zip_longest(behind, places, fillvalue=1)]
    kept = [max(behind[i:]) for i in range(len(behind))]
    return [
        [
            min((p["step"] for i, p in enumerate(trial.result.curve) if ranks[i][n] > kept[i]), default=math.inf)
            for n, trial in enumerate(trials)
        ]
        for trials, ranks in zip(searches, all_ranks, strict=True)
    ]


def searched(case: Case, count: int, seed: int, folder: Path) -> list[Trial]:
    """The trials of a search, drawn at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    space = space_of(None, case.space)
    return [trained(case, suggested(study.ask(), space), folder / str(number)) for number in range(count)]


def rows(name: str, searches: list[list[Trial]]) -> list[str]:
    """A case's lines of the table."""
    sign = 1 if searches[0][0].result.mode == "max" else -1
    stops = {
        "none": [[math.inf] * len(trials) for trials in searches],
        "median": [by_median(trials) for trials in searches],
        "verdict alone": [[trial.verdict for trial in trials] for trials in searches],
        "verdict": [by_median(trials, STARTUP, WARMUP, sees_verdict=True) for trials in searches],
        "ranks, in hindsight": in_hindsight(searches),
    }
    lines = []
    for pruner, ends in stops.items():
        best, reached, steps, whole, seconds, stopped, lost, places = [], 0, 0.0, 0.0, 0.0, 0, 0, []
        for trials, end in zip(searches, ends, strict=True):
            scores = [sign * trial.result.validation for trial in trials]
            scores = [-math.inf if math.isnan(score) else score for score in scores]
            left = [score for score, step in zip(scores, end, strict=True) if not math.isfinite(step)]
            best.append(sign * max(left, default=-math.inf))
            reached += max(left, default=-math.inf) == max(scores)
            steps += sum(min(step, trial.result.steps) for step, trial in zip(end, trials, strict=True))
            whole += sum(trial.result.steps for trial in trials)
            seconds += sum(
                trial.result.seconds * min(1, step / trial.result.steps)
                for step, trial in zip(end, trials, strict=True)
                if trial.result.steps
            )
            stopped += sum(map(math.isfinite, end))
            lost += math.isfinite(end[scores.index(max(scores))]) and max(left, default=-math.inf) < max(scores)
            cut = [score for score, step in zip(scores, end, strict=True) if math.isfinite(step)]
            places += [1 + sum(other > score for other in scores) for score in cut]
        total = sum(map(len, searches))
        cells = [
            *(name if pruner == "none" else "", pruner, f"{median(best):.4f}", f"{reached} of {len(searches)}"),
            *(f"{steps:,.0f}", f"{steps / whole:.2f}", f"{seconds:,.0f}", f"{stopped} of {total}", lost),
            min(places, default=""),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def page(lines: list[str], count: int, searches: int) -> str:
    """The whole page."""
    head = f"""\
# Search

What pruning by the verdict saves: {searches} searches per recipe, of {count} random trials each. Every trial was
trained to its end, noting the step at which each pruner would have stopped it. So the best score that can be
reached is that without a pruner, and it is known what each stopped trial would have reached. Scores are on the
validation split, the median over the searches: accuracy, and for the adding problem the error. The median pruner is
Optuna's with its defaults, asked after every validation. "Verdict alone" stops trials that show a fault; "verdict",
the default of `unvanish search`, also stops those below the median of the finished trials, of which there must be
{STARTUP} or more, after {WARMUP:.0%} of its steps. Both numbers, and the share of the gradient at which vanishing
stops a trial, were chosen on other searches of these recipes, before these were drawn. "Ranks, in hindsight" is no
pruner but a limit: all trials side by side, and at each validation as few of the best kept as lose no winner in any
of the searches. Seconds are training time; a stopped trial counts with its share of the steps. The machine did other
work at the same time.

`python -m benchmarks.search --trials {count} --searches {searches}`, {date.today()}

"""
    rule = "|---" * len(HEADS) + "|"
    return head + "\n".join([f"| {' | '.join(HEADS)} |", rule, *lines]) + "\n"


def run(arguments: argparse.Namespace) -> int:
    """Write the page as far as it is known whenever all recipes were searched once more."""
    quieten("stdout")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, list[list[Trial]]] = {name: [] for name in CASES}
    for number in range(arguments.searches):
        seed = FIRST + number
        for name, case in CASES.items():
            found[name].append(searched(case, arguments.trials, seed, arguments.out / case.recipe / str(seed)))
        lines = [line for name, searches in found.items() for line in rows(name, searches)]
        PAGE.write_text(page(lines, arguments.trials, number + 1), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=24)
    arguments.add_argument("--searches", type=int, default=10)
    arguments.add_argument("--out", type=Path, default=Path("runs/benchmarks/search"))
    raise SystemExit(run(arguments.parse_args()))
