"""A program that trains: what a case describes, ready to run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.faults import model as models
from benchmarks.faults import optimizer as optimizers
from benchmarks.faults.cases import Facts, at
from benchmarks.faults.data import Data, data_of
from benchmarks.faults.loss import loss_of
from benchmarks.faults.metric import metric, predictions
from benchmarks.faults.model import last_layer, model_of
from benchmarks.faults.optimizer import Schedule, optimizer_of


class Turn(NamedTuple):
    """A loss, not yet differentiated, and the optimizer that is to lower it.

    Args:
        loss: What ``backward`` is called on.
        optimizer: What steps after it.
        parameters: Those that it changes, where it is not all of them.
    """

    loss: Tensor
    optimizer: Optimizer
    parameters: Sequence[Tensor] | None = None


@dataclass
class Program:
    """A model, and what happens to it.

    Args:
        model: All that trains.
        turns: Gives a turn and waits until its step is made, again and again.
        planned: How many turns there are.
        measure: The metric on samples that were not learnt from.
        unknown: Facts of layers and of the optimizer that are not known here, and were left out.
        validate: The loss on them, without penalties.
    """

    model: nn.Module
    turns: Iterator[Turn]
    planned: int
    measure: Callable[[], float]
    unknown: Sequence[str] = ()
    validate: Callable[[], float] | None = None


def program_of(case: Facts, seed: int, root: Path) -> Program:
    """The program of a case: by its facts, or by the function of this package that ``data`` of kind python names."""
    torch.manual_seed(seed)
    if at(case, "data", "kind") == "python":
        options = {key: value for key, value in case["data"].items() if key not in ("kind", "factory")}
        module, _, name = case["data"]["factory"].rpartition(".")
        program: Program = getattr(import_module(f"benchmarks.faults.{module}"), name)(**options)
        return program
    data = data_of(case, seed, root)
    model, penalties = model_of(case["layers"], case["input_shape"])
    loss = loss_of(case["loss"], case.get("loss_options"))
    batches = _Batches(case, data, seed)
    return Program(
        model,
        _turns(case, model, lambda x, y: loss(model(x), y) + penalties(), batches),
        batches.planned,
        lambda: metric(case, predictions(model, data.x_valid), data.y_valid),
        [*models.unknown(case["layers"]), *optimizers.unknown(case["optimizer"])],
        lambda: loss(predictions(model, data.x_valid), data.y_valid).item(),
    )


def _turns(
    case: Facts, model: nn.Sequential, objective: Callable[[Tensor, Tensor], Tensor], batches: "_Batches"
) -> Iterator[Turn]:
    spec = case["optimizer"]
    trained = last_layer(model) if spec.get("only") == "last_layer" else list(model.parameters())
    if spec.get("of_another_model"):
        trained = list(model_of(case["layers"], case["input_shape"])[0].parameters())
    optimizer = optimizer_of(spec, trained)
    schedule = Schedule(spec, optimizer)
    for step, (x, y) in enumerate(batches):
        schedule.before(step)
        if not spec.get("no_zero_grad"):
            model.zero_grad()
        yield Turn(objective(x, y), optimizer)


class _Batches:
    """The batches of all epochs, as many as the case and its shorter run have."""

    def __init__(self, case: Facts, data: Data, seed: int) -> None:
        self.case, self.data = case, data
        self.random = np.random.default_rng(seed)
        run = case.get("run_here") or {}
        self.size = run.get("batch_size") or case.get("batch_size") or len(data.x)
        epochs = run.get("epochs") or case.get("epochs") or 1
        self.planned = min(run.get("max_steps", 10**9), epochs * math.ceil(len(data.x) / self.size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, step = len(self.data.x), 0
        while step < self.planned:
            order = torch.arange(count)
            if self.case.get("shuffle", True):
                order = torch.as_tensor(self.random.permutation(count))
            for chosen in torch.split(order, self.size)[: self.planned - step]:
                x = self.data.x[chosen]
                if options := self.case.get("augmentation"):
                    x = augmented(x, options, self.random)
                yield x, self.data.y[chosen]
                step += 1


def augmented(x: Tensor, options: Facts, random: np.random.Generator) -> Tensor:
    """Images (B, C, H, W) with noise on some pixels, and now and then a white rectangle on all of them."""
    noise = random.uniform(-options["noise"], options["noise"], x.shape)
    x = x + torch.as_tensor(noise * (random.random(x.shape) < options["noise_probability"]), dtype=x.dtype)
    if random.random() <= options["erase_probability"]:
        height, width = x.shape[-2:]
        area = random.uniform(*options["erase_area"]) * height * width
        aspect = random.uniform(options["erase_aspect"], 1 / options["erase_aspect"])
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
            x[..., top : top + h, left : left + w] = 1.0
    return x
