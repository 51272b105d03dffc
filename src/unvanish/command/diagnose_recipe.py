"""Diagnoses a recipe's network on its first batch, and tries the fixes on the same batch."""

import logging
import math
from dataclasses import replace

import lightning as L
from torch import Tensor

from unvanish.command.errors import as_wrong_input
from unvanish.command.experiment import Experiment
from unvanish.command.fixes import changed, fitting, trials
from unvanish.command.recipes import Recipe
from unvanish.gradients import Diagnosis, Verdict
from unvanish.gradients import diagnose as diagnose_model
from unvanish.training import ReferenceModule


def diagnose_recipe(recipe: Recipe, overrides: list[str], steps: int) -> Diagnosis:
    """Diagnose a recipe's network.

    Args:
        recipe: The recipe.
        overrides: Words of the command line that change its keys.
        steps: For how many steps each fix is trained; 0 for a single backward pass each.
    """
    experiment = Experiment.parse(recipe, overrides)
    built = experiment.build()
    batch = built.data.on_after_batch_transfer(next(iter(built.data.train_dataloader())), 0)
    found = _diagnose(built.model, batch)
    arguments = dict(built.model.hparams)
    tried = []
    logging.getLogger("unvanish").setLevel(logging.WARNING)  # the network has said how it is initialized
    if steps:
        with as_wrong_input():
            return replace(found, trials=trials(built, found, steps, experiment.arguments.seed))
    for fix, changes in fitting(arguments):
        L.seed_everything(experiment.arguments.seed, workers=True, verbose=False)
        try:
            model = type(built.model)(**changed(arguments, changes))
        except ValueError:  # not for this network: no two layers of one width, say
            continue
        verdict = _diagnose(model, batch).verdict
        tried.append((fix, changes, verdict))
    tried.sort(key=lambda row: _rank(row[2]))
    fixes = [
        {
            "fix": fix,
            "changes": changes,
            "factor_per_layer": verdict.factor_per_layer,
            "first_over_last": verdict.first_over_last,
            "verdict": verdict.name,
        }
        for fix, changes, verdict in tried
    ]
    return replace(found, fixes=fixes)


def _rank(verdict: Verdict) -> tuple[bool, float]:
    """A sort key: healthy verdicts first, then by how near the factor per layer is to 1."""
    factor = verdict.factor_per_layer
    return verdict.name != "healthy", abs(math.log(factor)) if 0 < factor < math.inf else math.inf


def _diagnose(model: ReferenceModule, batch: tuple[Tensor, Tensor]) -> Diagnosis:
    with as_wrong_input():
        return diagnose_model(model, batch, model.training_loss)
