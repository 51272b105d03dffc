"""Guesses what an unknown key means: the short words of other programs, and misspelt keys."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from unvanish.command.recipes import Recipe
from unvanish.names import nearest

#: For a word that people type, what it is, and the end of the key.
_SHORT = {
    "lr": ("the learning rate", "optimizer.learning_rate"),
    "epochs": ("the number of epochs", "trainer.max_epochs"),
    "num_epochs": ("the number of epochs", "trainer.max_epochs"),
    "steps": ("the number of steps", "trainer.max_steps"),
    "bs": ("the batch size", "loading.batch_size"),
    "data_seed": ("the seed of what is drawn", "loading.split_seed"),
    "optim": ("the optimizer", "optimizer.name"),
    "optimizer": ("the optimizer", "optimizer.name"),
    "scheduler": ("the schedule", "schedule.name"),
    "schedule": ("the schedule", "schedule.name"),
    "wd": ("weight decay", "regularization.weight_decay"),
    "loss": ("the loss", "loss.name"),
    "layers": ("the number of layers", "model.num_layers"),
    "depth": ("the number of layers", "model.num_layers"),
    "hidden": ("the sizes of the hidden layers", "model.hidden_sizes"),
    "device": ("the device", "trainer.accelerator"),
    "gpus": ("the number of devices", "trainer.devices"),
    "clip": ("the norm that gradients are clipped to", "trainer.gradient_clip_val"),
    "warmup": ("the number of warmup steps", "schedule.warmup_steps"),
}


def hint(key: str, keys: Collection[str]) -> str:
    """The words to append to ``unknown key``; empty if no known key is close.

    Args:
        key: The key as it was typed, without leading hyphens.
        keys: All known keys.
    """
    word = key.replace("-", "_").lower()
    word = word.rpartition(".")[2]  # what was meant may lie in another group
    what, end = _SHORT.get(word, (f"{word.replace('_', ' ')}", word))
    found = [known for known in keys if known == end or known.endswith(f".{end}")]
    if len(found) == 1:
        return f"; {'' if word in _SHORT else 'the '}{what} is {found[0]}"
    if found:
        return f"; did you mean {' or '.join(map(repr, found[:3]))}?"
    if close := nearest(key, keys):
        return close
    ends = {known.rpartition(".")[2]: known for known in keys}
    matches = get_close_matches(word, ends, n=1)
    return f"; did you mean {ends[matches[0]]!r}?" if matches else ""


def unknown_key(key: str, keys: Collection[str], overrides: Sequence[str], recipe: Recipe) -> str:
    """The message for a key that is not among ``keys``."""
    return located(f"unknown key {key!r}{hint(key, keys)}", key, overrides, recipe)


def located(reason: str, key: str, overrides: Sequence[str], recipe: Recipe) -> str:
    """The message about a key, with the recipe's files in front unless the key was typed on the command line."""
    typed = any(re.match(rf"--{re.escape(key)}(=|$)", word) for word in overrides)
    return reason if typed else f"{recipe}: {reason}"
