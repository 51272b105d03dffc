"""``unvanish fit``."""

from argparse import Namespace
from pathlib import Path

from unvanish.command.checkpoints import load_weights
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import load
from unvanish.command.run import CONFIG, has_test_split, has_validation_split, train
from unvanish.command.run_folder import new_run
from unvanish.command.threads import restored_threads


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
    if run.best.best_model_score is not None:
        print(f"best {run.best.monitor} {run.best.best_model_score:.4g}, {run.seconds:.0f} s of training")
    splits = {"test": has_test_split(built.data), "validate": has_validation_split(built.data)}
    words = [f"unvanish {verb} -c {folder / CONFIG}" for verb, is_there in splits.items() if is_there][:1]
    print("next:", "\n      ".join([*words, f"tensorboard --logdir {options.runs}"]))
    return 0
