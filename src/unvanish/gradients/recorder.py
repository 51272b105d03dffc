"""Collects what a training loop does with its gradients, without a framework."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unvanish.gradients import measure

Values = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Record:
    """What was measured at one optimizer step.

    Args:
        step: Number of the step.
        time: When it was taken, in seconds since the epoch.
        values: For each quantity (gradient_norm, delta_norm, delta_rms, update_ratio), a value for each layer that had
            one, in the order of the forward pass. A value may be NaN; what was not measured is left out.
    """

    step: int
    time: float
    values: Values

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return all(math.isfinite(value) for layers in self.values.values() for value in layers.values())


@dataclass
class _Step:
    """A step whose norms are still on the device: for each quantity the layers' names, repeated or not, and (n,)."""

    number: int
    time: float
    sizes: dict[str, int]
    norms: dict[str, tuple[list[str], Tensor]] = field(default_factory=dict)


@final
class GradientRecorder:
    """Measures the backward passes of any ``nn.Module`` while it trains, layer by layer.

    A layer is a module that owns a weight: a parameter with two axes or more. Recorded of each layer are, at
    every optimizer step, the norm of dL/dW and the norm and RMS of delta = dL/dz, where z is what the layer returns;
    and, at every ``every_n_steps``-th step, the update-to-weight ratio |W' - W| / |W|. Micro-batches whose gradients
    accumulate count as one batch, and a module that runs several times in a forward pass as one layer. What is
    differentiated by ``torch.autograd.grad`` between two steps counts as well.

    The values stay on the device until ``flush`` brings all of them to the host in one transfer::

        with GradientRecorder(model) as recorder:
            for step, (x, y) in enumerate(batches):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                recorder.before_step(step)
                optimizer.step()
                recorder.after_step()
            records = recorder.flush()

    Args:
        model: The module whose layers are recorded.
        every_n_steps: Steps between two measurements of the update ratio, for which the weights are copied.

    Raises:
        ValueError: ``every_n_steps`` is below 1, or ``model`` has no weight that trains.
    """

    def __init__(self, model: nn.Module, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self._modules: dict[str, nn.Module] = {}
        self._weights: list[tuple[str, nn.Parameter]] = []
        for name, module in model.named_modules():
            for weight in module.parameters(recurse=False):
                if weight.dim() >= 2:
                    # Weight normalization and its like keep a layer's weight in a module of their own, below it.
                    owner = name.partition("parametrizations.")[0].rstrip(".")
                    layer = owner or type(model).__name__
                    self._modules[layer] = model.get_submodule(owner)
                    self._weights.append((layer, weight))
        if not any(weight.requires_grad for _, weight in self._weights):
            raise ValueError(f"{type(model).__name__} has no weight that trains, so there is no gradient to record")
        self._order: dict[str, None] = {}
        self._updates: Counter[tuple[str, ...]] = Counter()
        self._steps: list[_Step] = []
        self._handles: list[RemovableHandle] = []
        self._forget()

    def _forget(self) -> None:
        """Begin a step."""
        self._seen: dict[str, None] = {}
        self._deltas: list[tuple[str, Tensor]] = []
        self._sizes: dict[str, int] = defaultdict(int)
        self._before: tuple[list[str], list[Tensor], list[Tensor]] | None = None

    @property
    def layers(self) -> list[str]:
        """The names of the layers in the order in which the forward pass runs them, those it has not run last."""
        return list(self._order | dict.fromkeys(self._modules))

    def __len__(self) -> int:
        """The number of steps recorded since the last flush."""
        return len(self._steps)

    def __enter__(self) -> Self:
        if self._handles:
            raise RuntimeError("this recorder is watching already")
        self._forget()
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(partial(self._watch, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        z = _first_tensor(output)
        if z is not None and z.requires_grad:
            self._seen.setdefault(name)
            # Unlike a backward hook on the module, a hook on the tensor allows an in-place ReLU behind it.
            z.register_hook(partial(self._add_delta, name))  # type: ignore[no-untyped-call]

    def _add_delta(self, name: str, delta: Tensor) -> None:
        self._deltas.append((name, measure.norm(delta.detach())))
        self._sizes[name] += delta.numel()

    @torch.no_grad()
    def before_step(
        self,
        step: int,
        parameters: Iterable[Tensor] | None = None,
        loss_scale: Tensor | float = 1.0,
        unscaled: bool = True,
    ) -> None:
        """Read the gradients once they are complete, before the optimizer uses them.

        Args:
            step: Number of the optimizer step.
            parameters: Those that this optimizer changes, where it is not all of them.
            loss_scale: What a gradient scaler has multiplied the loss by.
            unscaled: Whether the scale has been taken out of ``p.grad`` already.
        """
        recorded = _Step(step, time.time(), dict(self._sizes))
        if self._deltas:
            deltas = torch.stack([delta for _, delta in self._deltas])
            recorded.norms["delta"] = [name for name, _ in self._deltas], deltas / loss_scale
        # A pass that leaves layers out, as stochastic depth does, says nothing about their place.
        if self._seen.keys() >= self._order.keys():
            self._order = self._seen
        self._forget()
        chosen = None if parameters is None else {id(p) for p in parameters}
        names: list[str] = []
        weights: list[Tensor] = []
        gradients: list[Tensor] = []
        for name, weight in self._weights:
            if weight.grad is not None and (chosen is None or id(weight) in chosen):
                names.append(name)
                weights.append(weight)
                gradients.append(weight.grad)
        if names:
            recorded.norms["gradient"] = names, measure.norms(gradients) / (1.0 if unscaled else loss_scale)
            # Several optimizers share the numbers of the steps, but each has its own weights.
            if self._updates[tuple(names)] % self.every_n_steps == 0:
                self._before = names, weights, [weight.clone() for weight in weights]
            self._updates[tuple(names)] += 1
        self._steps.append(recorded)

    @torch.no_grad()
    def after_step(self) -> None:
        """Read how far the optimizer has moved the weights, where ``before_step`` has copied them."""
        if self._before is None:
            return
        names, weights, copies = self._before
        self._before = None
        self._steps[-1].norms["weight"] = names, measure.norms(copies)
        self._steps[-1].norms["update"] = names, measure.change_norms(copies, weights)

    def flush(self) -> list[Record]:
        """The records since the last flush, brought to the host in one transfer."""
        parts = [values for step in self._steps for _, values in step.norms.values()]
        numbers = iter(torch.cat(parts).tolist() if parts else ())
        records = [Record(step.number, step.time, self._values(step, numbers)) for step in self._steps]
        self._steps.clear()
        return records

    def _values(self, step: _Step, numbers: Iterator[float]) -> Values:
        """The quantities of a step; a layer that occurs more than once has the root of its squares' sum."""
        norms: Values = {}
        for part, (names, _) in step.norms.items():
            found: dict[str, float] = {}
            for name in names:
                found[name] = math.hypot(found.get(name, 0.0), next(numbers))
            norms[part] = {name: found[name] for name in self.layers if name in found}
        values: Values = {}
        if "gradient" in norms:
            values["gradient_norm"] = norms["gradient"]
        if "delta" in norms:
            values["delta_norm"] = norms["delta"]
            values["delta_rms"] = {name: norm / math.sqrt(step.sizes[name]) for name, norm in norms["delta"].items()}
        if "update" in norms:
            values["update_ratio"] = {
                name: norm / weight if (weight := norms["weight"][name]) else math.nan
                for name, norm in norms["update"].items()
            }
        return values


def _first_tensor(output: Any) -> Tensor | None:
    """What a layer returns: the tensor itself, or the first in a tuple, a list or a mapping, however nested."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return next((tensor for part in output if (tensor := _first_tensor(part)) is not None), None)
    return None
