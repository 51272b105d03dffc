"""``unvanish fit``."""

from argparse import Namespace
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from rich.text import Text

from unvanish.command.checkpoints import load_weights
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import load
from unvanish.command.run import CONFIG, has_test_split, has_validation_split, train
from unvanish.command.run_folder import new_run
from unvanish.command.terminal import console, has_unicode, style_of
from unvanish.command.threads import restored_threads
from unvanish.gradients import Report
from unvanish.gradients.layers import short_names
from unvanish.gradients.show.bars import bars


def fit(options: Namespace, overrides: list[str]) -> int:
    """Train a recipe's network in a new run folder."""
    recipe = load(options.config, options.variant)
    experiment = Experiment.parse(recipe, overrides)
    built = experiment.build()
    ckpt_path = Path(options.ckpt_path) if options.ckpt_path else None
    if ckpt_path:
        load_weights(ckpt_path, built.model)
    folder = new_run(Path(options.runs) / recipe.name)
    parameters = sum(p.numel() for p in built.model.parameters())
    print(f"{recipe.name}: {type(built.model).__name__} with {parameters:,} parameters, run {folder}")
    with restored_threads():
        run = train(experiment, built, folder, gradients=options.gradients, quiet=False, ckpt_path=ckpt_path)
    if not any(folder.glob("checkpoints/*.ckpt")):
        print("no checkpoint was kept: the run was over before it began, or keeps none")
        return 0
    if built.monitor.verbose:
        _show_bars(run.report)
    if run.best.best_model_score is not None:
        print(f"best {run.best.monitor} {run.best.best_model_score:.4g}, {run.seconds:.0f} s of training")
    print(f"kept in {folder}")
    splits = {"test": has_test_split(built.data), "validate": has_validation_split(built.data)}
    words = [f"unvanish {verb} {folder / CONFIG}" for verb, is_there in splits.items() if is_there][:1]
    if any(isinstance(logger, TensorBoardLogger) for logger in run.trainer.loggers):
        words.append(f"tensorboard --logdir {options.runs}")
    if words:
        print("next:", "\n      ".join(words))
    return 0


def _show_bars(report: Report) -> None:
    """|delta| by layer, in the last steps, and of the first recurrent layer |dL/dh_t| by time."""
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
