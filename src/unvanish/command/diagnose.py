"""``unvanish diagnose``: one batch, one backward pass, a verdict, and the fixes tried on the same batch."""

import json
import logging
import math
from argparse import Namespace
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.experiment import Experiment
from unvanish.command.findings import findings_page
from unvanish.command.fixes import changed, fitting, trials
from unvanish.command.recipes import load
from unvanish.gradients import Diagnosis
from unvanish.gradients import diagnose as diagnose_model
from unvanish.gradients.judge.rules import NAMES
from unvanish.gradients.judge.verdict import Verdict
from unvanish.names import lookup
from unvanish.networks.wrap import build_module
from unvanish.training import ReferenceModule

_SAMPLES = 16


def diagnose(options: Namespace, overrides: list[str]) -> int:
    """Print a diagnosis; 1 where its verdict is one to fail on."""
    if options.list_findings:
        print(findings_page(), end="")
        return 0
    fail_on = [name.strip().replace("-", " ") for name in options.fail_on.split(",") if name]
    with as_wrong_input("--fail-on: "):
        for name in fail_on:
            lookup("finding", name, dict.fromkeys((*NAMES, "healthy", "unknown")))
    if options.steps < 0:
        raise WrongInputError(f"--steps is {options.steps}; it is how many steps each remedy is trained for")
    if options.model and options.steps:
        raise WrongInputError("--steps goes with a recipe; --model is judged on random inputs, which teach nothing")
    if options.model:
        if options.config or overrides:
            given = "-c" if options.config else overrides[0]
            raise WrongInputError(f"--model stands for itself, without a recipe; {given} is one too many")
        found = _diagnose_path(options.model, options.input_shape)
    elif options.input_shape:
        raise WrongInputError("--input-shape goes with --model; a recipe's data has a shape of its own")
    else:
        found = _diagnose_recipe(Experiment.parse(load(options.config, options.variant), overrides), options.steps)
    print(json.dumps(found.as_dict(), indent=2, allow_nan=False) if options.json else found)
    verdicts = [found.verdict, *([found.trials.unchanged.verdict] if found.trials else [])]
    said = {name for verdict in verdicts for name in (verdict.name, *(one.name for one in verdict.findings))}
    return int(not said.isdisjoint(fail_on))


def _diagnose_recipe(experiment: Experiment, steps: int) -> Diagnosis:
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
    """Healthy ones first; and those whose factor is nearer to 1 before the others."""
    factor = verdict.factor_per_layer
    return verdict.name != "healthy", abs(math.log(factor)) if 0 < factor < math.inf else math.inf


def _diagnose(model: ReferenceModule, batch: tuple[Tensor, Tensor]) -> Diagnosis:
    with as_wrong_input():
        return diagnose_model(model, batch, model.training_loss)


def _diagnose_path(path: str, input_shape: str | None) -> Diagnosis:
    """Any model, on random inputs and random classes."""
    if not input_shape:
        raise WrongInputError(f"which input? Say --model {path} --input-shape 3,224,224, the axes of one sample")
    try:
        shape = [int(size) for size in input_shape.split(",")]
        if min(shape) < 1:
            raise ValueError("an axis is below 1")
    except ValueError as error:
        raise WrongInputError(f"--input-shape is {input_shape!r}; it is whole numbers such as 3,224,224") from error
    torch.manual_seed(0)
    try:
        model = build_module(path, {})
    except ValueError as error:
        raise WrongInputError(f"--model: {error}") from error
    x = torch.randn(_SAMPLES, *shape)
    try:
        with as_wrong_input():
            return diagnose_model(model, (x, torch.empty(0)), _random_loss)
    except (RuntimeError, TypeError, IndexError) as error:
        raise WrongInputError(f"{path} does not take an input of shape {tuple(x.shape)}: {error}") from error


def _random_loss(output: Any, _: Tensor) -> Tensor:
    """Cross-entropy of (B, C) with random classes."""
    logits = (
        output if isinstance(output, Tensor) else next(iter(output.values() if isinstance(output, dict) else output))
    )
    return F.cross_entropy(logits.flatten(0, -2), torch.randint(logits.shape[-1], logits.shape[:-1]).flatten())
