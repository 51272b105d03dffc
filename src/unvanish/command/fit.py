"""``unvanish fit``: trains a recipe's network."""

import shlex
from argparse import Namespace
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.text import Text

from unvanish import trust
from unvanish.command.checkpoints import load_weights
from unvanish.command.errors import StoppedError, WrongInputError
from unvanish.command.experiment import Built, Experiment, has_test_split, has_validation_split
from unvanish.command.learning_rate import KEY, PICTURE, find_learning_rate
from unvanish.command.recipes import CONFIG, load
from unvanish.command.resumable import check_resumable
from unvanish.command.resume import Start, resumed
from unvanish.command.run import Keeping, Run, train
from unvanish.command.run_folder import emptied_run, new_run, occupied
from unvanish.command.scores import warnings_of
from unvanish.command.terminal import console, has_unicode, say, style_of, tensorboard
from unvanish.command.threads import restored_threads
from unvanish.gradients import Report
from unvanish.gradients.layers import short_names
from unvanish.gradients.show.bars import bars
from unvanish.networks.pretrained import without_pretrained


def fit(
    options: Namespace, overrides: list[str], *, callbacks: Sequence[Callback] = (), columns: Collection[str] = ()
) -> int:
    """Train a recipe's network in a new run folder, or resume an interrupted run in its own.

    Args:
        options: The options of the command line.
        overrides: Words like ``--model.activation=tanh`` that change keys of the recipe.
        callbacks: Callbacks in addition to those of the recipe.
        columns: The columns of TensorBoard's HPARAMS page in which this run differs from others; empty if not known.

    Returns:
        The exit code, 0.

    Raises:
        WrongInputError: the recipe, an option or a checkpoint cannot be used.
        FailedError: the loss or a gradient is not finite, or the disk is full.
        StoppedError: the run was told to stop; the message has the command that resumes it.
    """
    if not options.checkpoint_minutes >= 0:
        raise WrongInputError(f"--checkpoint-minutes is {options.checkpoint_minutes}; it must not be negative")
    if options.find_learning_rate and options.resume:
        raise WrongInputError("--find-learning-rate is for a new run, and --resume continues one")
    recipe = load(options.config, options.variant)
    experiment = Experiment.parse(recipe, overrides)
    ckpt_path = Path(options.ckpt_path) if options.ckpt_path else None
    start = resumed(experiment, Path(options.runs), ckpt_path) if options.resume else Start(None, ckpt_path)
    with without_pretrained() if start.checkpoint else nullcontext():
        built = experiment.build()
    found = None
    if options.find_learning_rate:
        found = find_learning_rate(built)
        print(f"learning rate {found.rate:g}: there the loss falls fastest")
        experiment = Experiment.parse(recipe, [*overrides, f"--{KEY}={found.rate}"])
        built = experiment.build()
    built.trainer_options["callbacks"] += callbacks
    if start.checkpoint:
        checkpoint = load_weights(start.checkpoint, built.model, shards=False)
        check_resumable(start.checkpoint, checkpoint)
        start = start._replace(step=checkpoint["global_step"])
    folder = start.folder or new_run(Path(options.runs) / recipe.name)
    keeping = Keeping(options.checkpoint_minutes, options.on_nonfinite, goes_on=bool(start.folder and start.checkpoint))
    if found is not None:
        found.figure.savefig(folder / PICTURE)
    with occupied(folder), restored_threads():
        if start.folder and not start.checkpoint:
            emptied_run(folder)  # of a beginning that has kept nothing
        parameters = sum(p.numel() for p in built.model.parameters())
        say(f"{recipe.name}: {type(built.model).__name__} with {parameters:,} parameters, run {folder}{start}")
        try:
            run = train(
                experiment,
                built,
                folder,
                options.gradients,
                tests=options.test,
                keeping=keeping,
                ckpt_path=start.checkpoint,
                differing=columns,
            )
        except StoppedError as stop:
            raise StoppedError(f"{stop}{_how_to_go_on(options, folder)}", stop.signum) from stop
    if start.folder and run.trainer.global_step == start.step:
        print("nothing is left to train: set a larger --trainer.max_epochs or --trainer.max_steps to continue")
        return 0
    if not any(folder.glob("checkpoints/*.ckpt")):
        print("no checkpoint was kept: the run was over before it began, or keeps none")
        return 0
    _conclude(run, built, folder, options.runs)
    return 0


def _conclude(run: Run, built: Built, folder: Path, runs: str) -> None:
    """Print the result of a run, and the commands that may follow."""
    if run.skipped:
        print(f"{run.skipped} steps were skipped: their loss or gradient was not finite")
    if built.monitor.verbose:
        _show_bars(run.report)
    _tell_best(run, built)
    print(f"kept in {folder}")
    splits = {"test": has_test_split(built.data), "validate": has_validation_split(built.data)}
    verbs = [verb for verb, is_there in splits.items() if is_there]
    words = [shlex.join(["unvanish", verb, str(folder / CONFIG), *trust.words()]) for verb in verbs[:1]]
    if any(isinstance(logger, TensorBoardLogger) for logger in run.trainer.loggers):
        words.append(tensorboard(runs))
    if words:
        print("next:", "\n      ".join(words))


def _tell_best(run: Run, built: Built) -> None:
    """Print the score of the best epoch, and a warning for each baseline that it does not beat."""
    if run.best.best_model_score is not None:
        print(f"best {run.best.monitor} {run.best.best_model_score:.4g}, {run.seconds:.0f} s of training")
    if (scores := run.best.scores) is not None:
        metric = built.model.objective.metric
        values = {name: value for name, value in scores.values.items() if name == metric}
        names = getattr(built.data, "class_names", None)
        for line in warnings_of(scores, built.model.settings.task, names, values):
            say(line)
    if run.stopped_early:
        print(f"stopped early: {run.best.monitor} was no better {built.model.settings.early_stopping} times in a row")


def _how_to_go_on(options: Namespace, folder: Path) -> str:
    """The end of a message with the command that resumes the run; empty if there is no checkpoint."""
    if not any(folder.glob("checkpoints/*.ckpt")):
        return ""
    words = ["unvanish", "fit", "-c", str(folder / CONFIG), "--resume"]
    words += trust.words()
    words += [] if options.gradients else ["--no-gradients"]
    words += [] if options.on_nonfinite == "stop" else [f"--on-nonfinite={options.on_nonfinite}"]
    return f"; go on with `{shlex.join(words)}`"


def _show_bars(report: Report) -> None:
    """Print bars of |delta| by layer in the last steps, and of |dL/dh_t| by time for the first recurrent layer."""
    if not report.steps:
        return
    where, end = console(), report.end
    parts = [bars(end.line, ascii_only=not has_unicode(where))]
    times = next((record.through_time for record in reversed(report.last) if record.through_time), {})
    for layer, norms in [*times.items()][:1]:
        by_time = {f"t = {t}": norm for t, norm in norms.items()}
        parts.append(bars(by_time, layer=short_names([*end.line, layer])[layer], ascii_only=not has_unicode(where)))
    for lines in parts:
        for index, line in enumerate(lines):
            where.print(Text(line, style_of(end.name) if index else ""), soft_wrap=True)
