"""``unvanish validate``, ``test`` and ``predict``: what a trained network is worth, and what it says."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import cast

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from unvanish.command.checkpoints import checkpoint_of, load_weights, newest_run
from unvanish.command.errors import FailedError, WrongInputError, as_wrong_input
from unvanish.command.experiment import Built, Experiment
from unvanish.command.recipes import CONFIG, load
from unvanish.command.run_folder import is_marked
from unvanish.command.scores import CONFUSION, confusion_figure, keep, lines, plain
from unvanish.command.splits import has_validation_split
from unvanish.command.terminal import say
from unvanish.data import InMemoryData
from unvanish.networks.pretrained import without_pretrained
from unvanish.training import Scores


def evaluate(options: Namespace, overrides: list[str]) -> int:
    """Print the metrics of a checkpoint on the validation or the test split."""
    _, built, checkpoint = load_trained(options, overrides)
    trainer = quiet_trainer(built)
    if options.verb == "validate" and not has_validation_split(built.data):
        raise WrongInputError("the data has no validation split")
    run = trainer.validate if options.verb == "validate" else trainer.test
    with as_wrong_input():
        (metrics,) = run(built.model, built.data, verbose=False)
    stage, scores = ("val" if options.verb == "validate" else "test"), built.model.scores or Scores({})
    loss = metrics.get(f"{stage}/loss", math.nan)
    values, class_names = {"loss": loss} | scores.values, getattr(built.data, "class_names", None)
    if options.json:
        found = {"checkpoint": str(checkpoint), "split": stage} | plain(scores, class_names, values)
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print(f"{checkpoint}:")
        for line in lines(scores, built.model.settings.task, stage, values, class_names):
            say(line)
    if is_marked(folder := checkpoint.absolute().parents[1]):
        with as_wrong_input("cannot write the scores: "):
            keep(scores, folder, stage, class_names, values)
            if figure := confusion_figure(scores, class_names):
                figure.savefig(folder / f"{stage}_{CONFUSION}.png")
    return 0


def predict(options: Namespace, overrides: list[str]) -> int:
    """Write a prediction for each row of a file, or each file, with the probabilities of the classes, as CSV."""
    _, built, checkpoint = load_trained(options, overrides)
    if built.model.settings.task == "next_token":
        raise WrongInputError("predict is for tasks with one answer a row; of next_token, see `unvanish generate`")
    target = Path(options.out) if options.out else checkpoint.absolute().parents[1] / "predictions.csv"
    if options.out and target.exists() and not options.overwrite:
        raise WrongInputError(f"{target} exists already: --overwrite replaces it")
    with as_wrong_input():
        batches = cast("list[Tensor]", quiet_trainer(built).predict(built.model, built.data))
        outputs = torch.cat(batches).float().cpu()
        _check_finite(outputs, checkpoint)
        table = _table(outputs, built)
        if isinstance(built.data, InMemoryData) and (rows := built.data.splits.rows):
            table.index = pd.Index(rows)
    with as_wrong_input("cannot write the predictions: "):
        target.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(target, index_label="row")
    print(f"{checkpoint}: {len(table)} predictions in {target}")
    return 0


def load_trained(options: Namespace, overrides: list[str]) -> tuple[Experiment, Built, Path]:
    """The network of ``--ckpt_path`` as the recipe has it; else that of the recipe's newest run, as that run has it."""
    recipe = load(options.config, options.variant)
    if options.ckpt_path:
        checkpoint = Path(options.ckpt_path)
    else:
        is_run = recipe.paths[0].name == CONFIG
        run = recipe.paths[0].parent if is_run else newest_run(Path(options.runs) / recipe.name)
        checkpoint = checkpoint_of(run)
        if not is_run:
            recipe = load([str(run / CONFIG)])
    experiment = Experiment.parse(recipe, overrides)
    with without_pretrained():
        built = experiment.build()
    load_weights(checkpoint, built.model)
    return experiment, built, checkpoint


def quiet_trainer(built: Built) -> L.Trainer:
    """The recipe's trainer, in one process: split over several, the rows would have to be put together again."""
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "callbacks": None}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**built.trainer_options | alone | quiet)


def _check_finite(outputs: Tensor, checkpoint: Path) -> None:
    """NaN is no prediction: of a class it would be taken for the first."""
    broken = (~outputs.isfinite().reshape(len(outputs), -1).all(dim=1)).nonzero()
    if len(broken):
        rows = f"{len(broken)} of {len(outputs)} rows, the first of them row {int(broken[0])}"
        raise FailedError(f"{checkpoint} answers NaN or infinity for {rows}; nothing was written")


def _table(outputs: Tensor, built: Built) -> pd.DataFrame:
    """Columns ``prediction`` and, for classes, ``probability_<class>``; targets in the data's units."""
    task = built.model.settings.task
    if task == "regression":
        values = built.data.in_units(outputs) if isinstance(built.data, InMemoryData) else outputs
        names = getattr(built.data, "target_names", None) or range(values.shape[1])
        return pd.DataFrame(values.numpy(), columns=[f"prediction_{name}" for name in names])
    probabilities = torch.stack([1 - outputs, outputs], dim=1) if task == "binary" else outputs
    classes = getattr(built.data, "class_names", None) or list(map(str, range(probabilities.shape[1])))
    table = pd.DataFrame(probabilities.numpy(), columns=[f"probability_{name}" for name in classes])
    table.insert(0, "prediction", [classes[i] for i in probabilities.argmax(dim=1).tolist()])
    return table
