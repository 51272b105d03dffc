"""The remedies of findings, as changes of a recipe's keys."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.command.experiment import Built
from unvanish.gradients import Diagnosis
from unvanish.gradients.judge.plan import Batch, Plan, UnfitError, calls_of
from unvanish.gradients.judge.remedies import REMEDIES, WARMUP, Remedy
from unvanish.gradients.judge.trials import Trials, copied, try_remedies
from unvanish.training import ReferenceModule
from unvanish.training.regularization import weights_of

#: The primer's four fixes, as arguments of a network.
FIXES: dict[str, dict[str, Any]] = {
    "ReLU with He initialization": {"activation": "relu", "initialization": "he_normal"},
    "tanh with Xavier initialization": {"activation": "tanh", "initialization": "xavier_normal"},
    "the initialization that fits the activation": {"initialization": "auto"},
    "batch normalization": {"normalization": "batch"},
    "layer normalization": {"normalization": "layer"},
    "residual connections": {"residual": True},
}
#: Which of the rules' remedies each of these carries out, besides those that say its name.
_ANSWERS = {
    "tanh with Xavier initialization": "Xavier initialization with tanh",
    "the initialization that fits the activation": "(He or Xavier|He|Xavier|torch's own) initialization$",
    "batch normalization": "batch (or layer )?normalization$",
    "layer normalization": "(batch or )?layer normalization$",
    "leaky ReLU": "leaky ReLU",
    "layer normalization in front of each branch": "layer normalization in front",
    "LSTM cells": "LSTM or GRU",
    "GRU cells": "LSTM or GRU",
    "orthogonal recurrent weights": "orthogonal recurrent",
    "a forget-gate bias of 1": "a forget-gate bias",
    "ten times the learning rate": "a higher learning rate|another learning rate",
    "a hundred times the learning rate": "a higher learning rate|another learning rate",
    "a tenth of the learning rate": "a lower learning rate|another learning rate",
    "a hundredth of the learning rate": "a lower learning rate|another learning rate",
    "a learning rate that warms up": "warmup|a learning rate that warms up",
    "gradient clipping": "gradient clipping",
    "no clipping": "no clipping|a bound ten times",
    "Adam instead of SGD": "Adam instead",
    "no penalty": "a tenth of the penalty|no penalty",
}
#: Tried only where a finding names them.
_NAMED = ("no penalty", "a hundred times the learning rate")
#: Batches are kept up to this many bytes; then the first of them come again.
_BYTES = 2**28


def fitting(arguments: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those of ``FIXES`` that a network with these arguments allows and does not have yet."""
    for fix, changes in FIXES.items():
        if changes.keys() <= arguments.keys() and not changes.items() <= arguments.items():
            yield fix, {f"model.{key}": value for key, value in changes.items()}


def change_of(arguments: Mapping[str, Any], clip: float | None, steps: int) -> Callable[[str], Mapping[str, Any]]:
    """A function from the words of a remedy to the keys that it changes, with their new values; empty if not known.

    Args:
        arguments: The arguments of the network, ``training`` included.
        clip: The norm to which gradients are clipped; None if they are not.
        steps: Optimizer steps of the training.
    """
    possible = _possible(arguments, clip, steps)
    means = [(name, re.compile(_ANSWERS.get(name, re.escape(name)))) for name in possible]
    return partial(_change_of, possible, means)


def _change_of(
    possible: Mapping[str, Mapping[str, Any]], means: Iterable[tuple[str, re.Pattern[str]]], words: str
) -> Mapping[str, Any]:
    return next((possible[name] for name, meant in means if words == name or meant.match(words)), {})


def changed(arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A network's arguments after changes of the recipe's keys, which may also belong to its ``training``."""
    found = dict(arguments)
    for key, value in changes.items():
        group, name, *path = key.split(".")
        if group == "model":
            found[name] = _replaced(found[name], path, value)
    return found


def trials(built: Built, found: Diagnosis, steps: int, seed: int) -> Trials:
    """Train the network for ``steps`` steps as it is, and once with each change that may help."""
    clip, how = built.trainer_options.get("gradient_clip_val"), built.trainer_options.get("gradient_clip_algorithm")
    batches = _batches(built, steps)
    plan = Plan(
        built.model,
        batches,
        built.model.training_loss,
        partial(_optimizer, steps=steps),
        steps,
        found.record,
        found.activations,
        calls_of(copied(built.model), batches[0][0]),
        penalty=_penalty(built.model),
        rate=_rate(built.model, steps),
        clip=_clip(clip, how),
    )
    arguments = dict(built.model.hparams)
    possible = _possible(arguments, clip, steps)
    tried = [
        Remedy(name, partial(_apply, arguments, changes, seed), _ANSWERS.get(name, name), name not in _NAMED)
        for name, changes in possible.items()
    ]
    if "initialization" in arguments:  # one of ours: all that fits it is a key, but for data that come as they are
        tried += [
            Remedy(name, _unfit, _ANSWERS.get(name, name), is_general=False)
            for name in {**FIXES, **_ANSWERS}
            if name not in possible
        ]
        tried += [replace(remedy, is_general=False) for remedy in REMEDIES if remedy.name == "standardised inputs"]
    else:
        tried += [remedy for remedy in REMEDIES if remedy.name not in possible]
    return try_remedies(plan, found.verdict.findings, tried, seed)


def _possible(arguments: Mapping[str, Any], clip: float | None, steps: int) -> dict[str, dict[str, Any]]:
    """All changes that this recipe allows and does not have yet, by name."""
    training, recurrent = arguments["training"], "cell" in arguments
    optimizer, schedule, penalties = training.optimizer, training.schedule, training.regularization
    rate = "model.training.optimizer.learning_rate"
    found = dict(fitting(arguments))
    if arguments.get("activation") == "relu" and not recurrent:
        found["leaky ReLU"] = {"model.activation": "leaky_relu"}
    if arguments.get("norm_first") is False:
        found["layer normalization in front of each branch"] = {"model.norm_first": True}
    if arguments.get("cell") == "rnn":
        found |= {f"{cell.upper()} cells": {"model.cell": cell, "model.activation": "tanh"} for cell in ("lstm", "gru")}
    if recurrent:
        auto = found.pop("the initialization that fits the activation", None)
        found |= {"orthogonal recurrent weights": auto} if auto else {}
    if arguments.get("cell") == "lstm" and arguments["initialization"] == "default" and not arguments["forget_bias"]:
        found["a forget-gate bias of 1"] = {"model.forget_bias": 1.0}
    factors = {"ten times": 10, "a hundred times": 100, "a tenth of": 0.1, "a hundredth of": 0.01}
    for words, factor in factors.items():
        found[f"{words} the learning rate"] = {rate: float(f"{factor * optimizer.learning_rate:.3g}")}
    if not schedule.warmup_steps and schedule.name != "one_cycle":
        found["a learning rate that warms up"] = {"model.training.schedule.warmup_steps": max(2, round(WARMUP * steps))}
    if clip is None:
        found["gradient clipping"] = {"trainer.gradient_clip_val": 1.0}
    else:
        found["no clipping"] = {"trainer.gradient_clip_val": None}
    if optimizer.name == "sgd":
        found["Adam instead of SGD"] = {
            "model.training.optimizer.name": "adam",
            rate: 1e-3,
            "model.training.optimizer.options": {},
        }
    weighed = {name: 0.0 for name in ("l1", "l2", "weight_decay") if getattr(penalties, name)}
    if weighed:
        found["no penalty"] = {f"model.training.regularization.{name}": value for name, value in weighed.items()}
    return found


def _apply(arguments: Mapping[str, Any], changes: Mapping[str, Any], seed: int, plan: Plan) -> Plan:
    L.seed_everything(seed, workers=True, verbose=False)
    model = plan.model
    if any(key.startswith("model.") for key in changes):
        try:
            model = type(plan.model)(**changed(arguments, changes))
        except ValueError as error:  # not for this network: no two layers of one width, say
            raise UnfitError(str(error)) from error
    network = cast("ReferenceModule", model)
    clip = plan.clip
    if "trainer.gradient_clip_val" in changes:
        clip = _clip(changes["trainer.gradient_clip_val"], None)
    return replace(
        plan,
        model=model,
        loss=network.training_loss,
        penalty=_penalty(network),
        rate=_rate(network, plan.steps),
        clip=clip,
        changes=changes,
    )


def _unfit(_: Plan) -> Plan:
    raise UnfitError("it is there already, or does not apply to this network")


def _replaced(value: Any, path: list[str], new: Any) -> Any:
    """A dataclass of dataclasses with the field at the end of ``path`` replaced."""
    return replace(value, **{path[0]: _replaced(getattr(value, path[0]), path[1:], new)}) if path else new


def _optimizer(model: nn.Module, steps: int) -> Optimizer:
    assert isinstance(model, ReferenceModule)
    model.total_steps = steps
    made: Any = model.configure_optimizers()
    # Its scheduler has taken its first factor; the trials' own loop follows the schedule.
    optimizer: Optimizer = made["optimizer"] if isinstance(made, dict) else made
    for group in optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    return optimizer


def _rate(model: ReferenceModule, steps: int) -> Callable[[int], float]:
    return partial(model.settings.schedule.factor, total_steps=steps)


def _penalty(model: ReferenceModule) -> Callable[[nn.Module], Tensor] | None:
    regularization = model.settings.regularization
    return (lambda m: regularization.penalty(weights_of(m))) if regularization.has_penalty else None


def _clip(bound: float | None, how: str | None) -> Callable[[Any], object] | None:
    if bound is None:
        return None
    if how == "value":
        return lambda parameters: nn.utils.clip_grad_value_(parameters, bound)
    return lambda parameters: nn.utils.clip_grad_norm_(parameters, bound)


def _batches(built: Built, steps: int) -> list[Batch]:
    """The recipe's batches, epoch after epoch: one for each step, but no more than fit in 256 MiB."""
    found: list[Batch] = []
    room = _BYTES
    for batch in chain.from_iterable(repeat(built.data.train_dataloader())):
        x, y = built.data.on_after_batch_transfer(batch, 0)
        found.append((x, y))
        room -= sum(t.nbytes for t in (x, y) if isinstance(t, torch.Tensor))
        if len(found) == steps or room <= 0:
            break
    return found
