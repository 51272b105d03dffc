"""``unvanish diagnose``: one batch, one backward pass, a verdict, and the fixes tried on the same batch.

A model given by its dotted path needs only torch, so the modules for recipes are imported only when there is one.
"""

import json
from argparse import Namespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.recipes import load
from unvanish.gradients import Diagnosis
from unvanish.gradients import diagnose as diagnose_model
from unvanish.gradients.judge.rules import NAMES
from unvanish.names import lookup
from unvanish.trust import build_module

_SAMPLES = 16


def diagnose(options: Namespace, overrides: list[str]) -> int:
    """Print a diagnosis. Returns 1 if it has a finding of ``--fail-on``, else 0."""
    if options.list_findings:
        from unvanish.command.findings import findings_page

        print(findings_page(), end="")
        return 0
    fail_on = [name.strip().replace("-", " ") for name in options.fail_on.split(",") if name]
    with as_wrong_input("--fail-on: "):
        for name in fail_on:
            lookup("finding", name, dict.fromkeys((*NAMES, "healthy", "unknown")))
    if options.steps < 0:
        raise WrongInputError(f"--steps is {options.steps}; it is the number of steps that each remedy is trained for")
    if options.model and options.steps:
        raise WrongInputError("--steps goes with a recipe; --model is judged on random inputs, which cannot be learnt")
    if options.model:
        if options.config or overrides:
            given = "-c" if options.config else overrides[0]
            raise WrongInputError(f"--model takes no recipe; {given} is one too many")
        found = _diagnose_path(options.model, options.input_shape)
    elif options.input_shape:
        raise WrongInputError("--input-shape goes with --model; a recipe's data has its own shape")
    else:
        from unvanish.command.diagnose_recipe import diagnose_recipe

        found = diagnose_recipe(load(options.config, options.variant), overrides, options.steps)
    print(json.dumps(found.as_dict(), indent=2, allow_nan=False) if options.json else found)
    verdicts = [found.verdict, *([found.trials.unchanged.verdict] if found.trials else [])]
    said = {name for verdict in verdicts for name in (verdict.name, *(one.name for one in verdict.findings))}
    return int(not said.isdisjoint(fail_on))


def _diagnose_path(path: str, input_shape: str | None) -> Diagnosis:
    """Diagnose any model on random inputs and random classes."""
    if not input_shape:
        raise WrongInputError(
            f"which input? Give its shape: --model {path} --input-shape 3,224,224, the axes of one sample"
        )
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
    """The cross-entropy of outputs (B, C) with random classes (B,), a scalar."""
    logits = (
        output if isinstance(output, Tensor) else next(iter(output.values() if isinstance(output, dict) else output))
    )
    return F.cross_entropy(logits.flatten(0, -2), torch.randint(logits.shape[-1], logits.shape[:-1]).flatten())
