"""``unvanish generate``: a trained next-token network continues a text."""

from argparse import Namespace

import torch

from unvanish.command.errors import WrongInputError, as_wrong_input
from unvanish.command.evaluate import load_trained, quiet_trainer
from unvanish.networks.generation import generate as go_on


def generate(options: Namespace, overrides: list[str]) -> int:
    """Print a prompt and its continuation, drawn with the recipe's seed, and nothing else."""
    experiment, built, _ = load_trained(options, overrides)
    if (task := built.model.settings.task) != "next_token":
        raise WrongInputError(f"generate is for task next_token; that of {experiment.recipe} is {task}")
    tokenizer = getattr(built.data, "tokenizer", None)
    if tokenizer is None:
        raise WrongInputError(f"{experiment.recipe}: the data has no 'tokenizer', which turns text into tokens")
    if not options.prompt:
        raise WrongInputError("--prompt is empty; it needs some text to continue, at least a new line")
    with as_wrong_input("--prompt: "):
        prompt = tokenizer.encode(options.prompt)
    device = quiet_trainer(built).strategy.root_device
    with as_wrong_input():
        text = go_on(
            built.model.to(device),
            torch.tensor([prompt], device=device),
            options.tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            generator=torch.Generator(device).manual_seed(experiment.arguments.seed),
        )
    print(tokenizer.decode(text[0].tolist()))
    return 0
