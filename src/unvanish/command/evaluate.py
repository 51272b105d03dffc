"""``unvanish validate``, ``test`` and ``predict``: the scores of a trained network, and its predictions."""

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import pandas as pd
import torch
from torch import Tensor

import unvanish
from unvanish.command import data_files
from unvanish.command.checkpoints import checkpoint_of, load_checkpoint, load_weights, runs_of
from unvanish.command.confusion import confusion_picture
from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.experiment import Built, Experiment, has_validation_split
from unvanish.command.predictions import check_finite, prediction_table, write
from unvanish.command.recipes import CONFIG, load
from unvanish.command.run_folder import is_marked
from unvanish.command.scores import CONFUSION, keep, lines, plain
from unvanish.command.terminal import say
from unvanish.data import InMemoryData
from unvanish.data.encoding import TRUTH
from unvanish.networks.pretrained import without_pretrained
from unvanish.training import Scores
from unvanish.training.module import DATA


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
            if png := confusion_picture(scores, class_names):
                (folder / f"{stage}_{CONFUSION}.png").write_bytes(png)
    return 0


def predict(options: Namespace, overrides: list[str]) -> int:
    """Write a prediction for each row of a file, or each file, with the probabilities of the classes, as CSV."""
    experiment, checkpoint = find_trained(options, overrides)
    target = Path(options.out) if options.out else checkpoint.absolute().parents[1] / "predictions.csv"
    if options.out and target.exists() and not options.overwrite:
        raise WrongInputError(f"{target} exists already: --overwrite replaces it")
    path = experiment.arguments.get("data.predict_path")
    table = _of_new_rows(checkpoint, path) if path is not None else None
    if table is None:
        with without_pretrained():
            built = experiment.build()
        _load(checkpoint, built)
        if built.model.settings.task == "next_token":
            raise WrongInputError("predict is for tasks with one answer a row; of next_token, see `unvanish generate`")
        with as_wrong_input():
            batches = cast("list[Tensor]", quiet_trainer(built).predict(built.model, built.data))
            outputs = torch.cat(batches).float().cpu()
            check_finite(outputs, checkpoint)
            table = _table(outputs, built)
    with as_wrong_input("cannot write the predictions: "):
        write(table, target)
    print(f"{checkpoint}: {len(table)} predictions in {target}")
    return 0


def _of_new_rows(checkpoint: Path, path: str) -> pd.DataFrame | None:
    """The predictions for a table or a series in a file, without the training file; None for other data."""
    if load_checkpoint(checkpoint).get(DATA, {}).get("kind") not in ("Table", "TimeTable"):
        return None
    with as_wrong_input():
        return unvanish.load(checkpoint).predict(path)


def load_trained(options: Namespace, overrides: list[str]) -> tuple[Experiment, Built, Path]:
    """Load the network of ``--ckpt_path`` by the recipe, or that of its newest run by the run's config.yaml."""
    experiment, checkpoint = find_trained(options, overrides)
    with without_pretrained():
        built = experiment.build()
    _load(checkpoint, built)
    return experiment, built, checkpoint


def _load(checkpoint: Path, built: Built) -> None:
    found = load_weights(checkpoint, built.model)
    data_files.check_encoding(checkpoint, found.get(DATA), built.data)


def find_trained(options: Namespace, overrides: list[str]) -> tuple[Experiment, Path]:
    """The experiment and its checkpoint. If the recipe names a data file, the run must have been trained on that file.

    Raises:
        WrongInputError: there is no such run, or the file lacks columns of the run's file.
    """
    recipe = load(options.config, options.variant)
    if options.ckpt_path:
        checkpoint = Path(options.ckpt_path)
        experiment = Experiment.parse(recipe, overrides)
    else:
        is_run = recipe.paths[0].name == CONFIG
        if is_run:
            run = recipe.paths[0].parent
        else:
            path = Experiment.parse(recipe, overrides).arguments.get("data.path")
            runs = runs_of(Path(options.runs) / recipe.name)
            run = data_files.newest_of(runs, Path(path)) if path is not None else runs[-1]
            recipe = load([str(run / CONFIG)])
        checkpoint = checkpoint_of(run)
        experiment = Experiment.parse(recipe, overrides)
    path, run = experiment.arguments.get("data.path"), checkpoint.absolute().parents[1]
    if path is not None and Path(path).exists():
        data_files.check(run, Path(path))
    return experiment, checkpoint


def quiet_trainer(built: Built) -> L.Trainer:
    """The recipe's trainer in one process, since rows that are split over several would have to be merged again."""
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "callbacks": None}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**built.trainer_options | alone | quiet)


def _table(outputs: Tensor, built: Built) -> pd.DataFrame:
    """The table of predictions, with ids and, where it is known, the truth."""
    data, task = built.data, built.model.settings.task
    class_names, target_names = getattr(data, "class_names", None), getattr(data, "target_names", None)
    carried: dict[str, Sequence[Any]] = {}
    rows: Sequence[Any] = ()
    if isinstance(data, InMemoryData):
        carried, rows = dict(data.splits.carried), data.splits.rows
        if len(known := data.splits.predict or data.splits.test) > 1:
            carried |= _truth(known[1], data)
        outputs = data.in_units(outputs) if task == "regression" else outputs
    return prediction_table(
        outputs, task, class_names=class_names, target_names=target_names, carried=carried, rows=rows
    )


def _truth(y: Tensor, data: InMemoryData) -> dict[str, Sequence[Any]]:
    """The columns of the truth, in the same form as the predictions."""
    if data.task == "regression":
        values = InMemoryData.in_units(data, y.cpu())
        names = data.target_names or range(values.shape[1])
        return {TRUTH if values.shape[1] == 1 else f"{TRUTH}_{n}": values[:, i].tolist() for i, n in enumerate(names)}
    return {TRUTH: [data.class_names[i] if data.class_names else i for i in y.long().tolist()]}
