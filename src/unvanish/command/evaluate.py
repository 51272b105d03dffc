"""``unvanish validate``, ``test`` and ``predict``: what a trained network is worth, and what it says."""

from argparse import Namespace
from pathlib import Path
from typing import cast

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from unvanish.command.checkpoints import find_checkpoint, load_weights
from unvanish.command.errors import as_wrong_input
from unvanish.command.experiment import Built, Experiment
from unvanish.command.recipes import load


def evaluate(options: Namespace, overrides: list[str]) -> int:
    """Print the metrics of a checkpoint on the validation or the test split."""
    trainer, built, checkpoint = _load(options, overrides)
    run = trainer.validate if options.verb == "validate" else trainer.test
    (metrics,) = run(built.model, built.data, verbose=False)
    print(f"{checkpoint}: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    return 0


def predict(options: Namespace, overrides: list[str]) -> int:
    """Write a prediction for each row, with the probabilities of the classes, as CSV."""
    trainer, built, checkpoint = _load(options, overrides)
    target = Path(options.out) if options.out else checkpoint.parents[1] / "predictions.csv"
    with as_wrong_input("cannot write the predictions: "):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    batches = cast("list[Tensor]", trainer.predict(built.model, built.data))
    table = _table(torch.cat(batches).float().cpu(), built)
    table.to_csv(target, index_label="row")
    print(f"{checkpoint}: {len(table)} predictions in {target}")
    return 0


def _load(options: Namespace, overrides: list[str]) -> tuple[L.Trainer, Built, Path]:
    recipe = load(options.config, options.variant)
    built = Experiment.parse(recipe, overrides).build()
    checkpoint = Path(options.ckpt_path) if options.ckpt_path else find_checkpoint(recipe, Path(options.runs))
    load_weights(checkpoint, built.model)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**built.trainer_options | quiet), built, checkpoint


def _table(outputs: Tensor, built: Built) -> pd.DataFrame:
    """Columns ``prediction`` and, for classes, ``probability_<class>``; targets in the data's units."""
    task = built.model.settings.task
    if task == "regression":
        std, mean = (getattr(built.data, name, None) for name in ("target_std", "target_mean"))
        values = outputs if std is None else outputs * std + mean
        return pd.DataFrame(values.numpy(), columns=[f"prediction_{i}" for i in range(values.shape[1])])
    probabilities = torch.stack([1 - outputs, outputs], dim=1) if task == "binary" else outputs
    classes = getattr(built.data, "class_names", None) or list(map(str, range(probabilities.shape[1])))
    table = pd.DataFrame(probabilities.numpy(), columns=[f"probability_{name}" for name in classes])
    table.insert(0, "prediction", [classes[i] for i in probabilities.argmax(dim=1).tolist()])
    return table
