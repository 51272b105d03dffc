"""Collects what a training loop does with its gradients, without a framework."""

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import NamedTuple, Self, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unvanish.gradients import measure
from unvanish.gradients.layers import find_layers
from unvanish.gradients.ranks import Part, Ranks
from unvanish.gradients.record import Record, Step
from unvanish.gradients.recurrent import TIMES
from unvanish.gradients.watch import Watch, notes
from unvanish.gradients.weights import Directions, Weights

_COMPILED_EARLIER = "it was compiled and called before the recorder was entered, and hooks added later do not run"
_NOT_CALLED = (
    "the first tensor that it returns has no part in the loss or is a view that is changed in place, its weight is "
    "used without calling it, or it was compiled before the recorder was entered"
)
_SHARDED = "sharded weights do not show the gradient of one micro-batch"
_STATES = tuple(f"state_{index}" for index in range(TIMES))
#: What each rank measures of its own share of the batch; the first of them are norms.
_SHARED_NORMS = ("delta", "small_batch", *_STATES)
_SHARED = (
    *_SHARED_NORMS,
    *("delta_count", "small_batch_count", "activation", "activation_count", "squares", "saturated", "saturated_count"),
    *("passes", "length", "length_square"),
)


class _Pending(NamedTuple):
    """What the optimizer is about to change: weights, and copies of what this rank holds of them."""

    names: list[str]
    weights: list[nn.Parameter]
    copies: list[Tensor]
    unscaled: bool


@final
class GradientRecorder:
    """Measures the backward passes of any ``nn.Module`` while it trains, layer by layer.

    A layer is a module that owns a weight: a parameter with two axes or more. At every step the norm of dL/dW is read;
    at the first steps, and then at every ``every_n_steps``-th, hooks are put in place and everything is (see
    ``Record``): delta = dL/dz, where z is what the layer returns, its activation, the update of its weights, and for a
    recurrent layer dL/dh_t. Micro-batches whose gradients accumulate count as one batch, and a module that runs several
    times in a forward pass as one layer. What is differentiated by ``torch.autograd.grad`` between two steps counts as
    well. What cannot be measured is said in ``notes``.

    The values stay on the device until ``flush`` brings all of them to the host in one transfer::

        with GradientRecorder(model) as recorder:
            for step, (x, y) in enumerate(batches):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                recorder.before_step(step)
                optimizer.step()
                recorder.after_step()
            records = recorder.flush()

    Under DDP and FSDP2 every rank calls the same methods, and each of them learns of the whole batch. A model that is
    to be compiled must be compiled, or first called, inside the context; every step of it is measured.

    Args:
        model: The module whose layers are recorded.
        every_n_steps: Steps between two at which everything is measured; for it, the weights and their gradients are
            copied for a moment.
        first_steps: Steps at the start at which everything is measured.
        histogram_every_n_steps: Steps between two histograms; a multiple of ``every_n_steps``.
        process_group: The ranks that share a batch, where neither a ``DistributedDataParallel`` nor sharded weights
                tell.

    Raises:
        ValueError: an interval is below 1, or ``model`` has no weight that trains.
    """

    def __init__(
        self,
        model: nn.Module,
        every_n_steps: int = 20,
        *,
        first_steps: int = 10,
        histogram_every_n_steps: int = 100,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("histogram_every_n_steps", histogram_every_n_steps)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self.first_steps = first_steps
        self.histogram_every_n_steps = histogram_every_n_steps
        self._is_compiled = any(
            hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()
        )
        while inner := _wrapped(model):
            process_group, model = getattr(model, "process_group", process_group), inner
        modules, pairs = find_layers(model)
        if not any(weight.requires_grad for _, weight in pairs):
            raise ValueError(f"{type(model).__name__} has no weight that trains, so there is no gradient to record")
        self._sharded = any(hasattr(weight, "to_local") for _, weight in pairs)
        if self._sharded and process_group is None:
            process_group = dist.group.WORLD
        self._ranks = None if process_group is None else Ranks(process_group, modules, pairs)
        self._weights = Weights(pairs, self._ranks if self._sharded else None)
        self._watch = Watch(modules, pairs, model)
        self._order: dict[str, None] = {}
        self._taken: Counter[Hashable] = Counter()
        self._with_gradient: dict[str, None] = {}
        self._with_delta: dict[str, None] = {}
        self._steps: list[Step] = []
        self._pending: _Pending | None = None
        self._previous: dict[Hashable, Directions] = {}

    @property
    def layers(self) -> list[str]:
        """The names of the layers in the order in which the forward pass runs them, those it has not run last."""
        return list(self._order | dict.fromkeys(self._watch.modules))

    @property
    def activations(self) -> dict[str, str]:
        """The kind of activation that follows each layer, as far as one was seen; identity where there is none."""
        return self._watch.kinds

    @property
    def notes(self) -> list[str]:
        """What could not be measured, and why; complete after ``flush``."""
        unseen = [name for name in self._with_gradient if name not in self._with_delta]
        is_compiled_earlier = self._is_compiled and not self._watch.compiled
        return self._watch.notes() + notes("delta", unseen, _COMPILED_EARLIER if is_compiled_earlier else _NOT_CALLED)

    def __len__(self) -> int:
        """The number of steps recorded since the last flush."""
        return len(self._steps)

    def __enter__(self) -> Self:
        if self._watch.is_attached:
            raise RuntimeError("this recorder is watching already")
        self._watch.clear()
        self._watch.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.detach()
        self._watch.clear()
        self._previous.clear()

    @torch.no_grad()
    def before_step(
        self,
        step: int,
        parameters: Iterable[Tensor] | None = None,
        loss_scale: Tensor | float = 1.0,
        unscaled: bool = True,
        batch_size: int | None = None,
    ) -> None:
        """Read the gradients once they are complete, before they are clipped and the optimizer uses them.

        Args:
            step: Number of the optimizer step.
            parameters: Those that this optimizer changes, where it is not all of them.
            loss_scale: What a gradient scaler has multiplied the loss by.
            unscaled: Whether the scale has been taken out of ``p.grad`` already.
            batch_size: Samples in each micro-batch on this rank, for the gradient noise scale.
        """
        chosen = None if parameters is None else frozenset(map(id, parameters))
        (names, weights, sizes), gradients = self._weights.with_gradient(chosen)
        taken = self._taken[chosen]
        is_full = self._watch.is_attached and self._is_due(taken)
        self._taken[chosen] += is_full or taken > 0
        recorded = Step(step, time.time(), sizes, batch_size, self._ranks.size if self._ranks else 1, is_full)
        if batch_size is not None and self._sharded:
            self._watch.reasons["gradient noise scale", _SHARDED]["the network"] = None
        self._steps.append(recorded)
        if is_full:
            self._take_passes(recorded, loss_scale)
        self._pending = None
        previous = self._previous.pop(chosen, None)
        if names:
            scale = 1.0 if unscaled else loss_scale
            norms = self._weights.norms("gradient", names, gradients, scale)
            recorded.parts |= norms
            if previous is not None and previous.names == names:
                recorded.parts |= self._weights.cosines(previous, gradients, scale)
            if is_full:
                self._previous[chosen] = self._weights.directions(names, gradients, norms, scale)
                recorded.parts |= self._weights.norms("weight", names, weights)
                self._pending = _Pending(names, weights, [measure.local(w).clone() for w in weights], unscaled)
                if taken % self.histogram_every_n_steps == 0:
                    recorded.histograms = self._weights.histograms(names, gradients)
        if self._watch.is_attached or self._watch.compiled:
            self._watch.clear()
        self._rearm()

    def _is_due(self, taken: int) -> bool:
        return taken < self.first_steps or taken % self.every_n_steps == 0

    def _rearm(self) -> None:
        """Have the hooks in place where any optimizer's next step is due; what is compiled keeps them."""
        due = any(self._is_due(taken) for taken in self._taken.values())
        if due:
            self._watch.attach()
        else:
            self._watch.pause()

    def _take_passes(self, recorded: Step, loss_scale: Tensor | float) -> None:
        """What the hooks have seen since the last step."""
        watch, ranks = self._watch, self._ranks
        watch.close_layer()
        # A pass that leaves layers out, as stochastic depth does, says nothing about their place.
        if watch.seen.keys() >= self._order.keys():
            self._order = watch.seen
        for name, recurrent_pass in watch.passes:
            if not recurrent_pass.has_gradient:
                continue
            times = recorded.times[name] = recurrent_pass.times
            for quantity, number in (("passes", 1), ("length", times[-1]), ("length_square", times[-1] ** 2)):
                watch.counts[quantity][name] += number
            for quantity, norm in zip(_STATES, recurrent_pass.state_gradients(), strict=False):
                watch.values[quantity].append((name, norm))
        passes = watch.counts["small_batch_count"].values()
        watch.has_small_batches = ranks is not None or max(passes, default=2) > 1
        parts, largest = watch.take(), watch.largest
        if ranks:
            parts, largest = ranks.add_up(parts, _SHARED, _SHARED_NORMS), ranks.largest(largest)
        # Ranks average their gradients, so each of them brings its share of delta.
        share = loss_scale * (ranks.size if ranks else 1)
        for quantity, part in parts.items():
            if quantity in _SHARED_NORMS:
                scale = loss_scale if quantity == "small_batch" else share
                recorded.parts[quantity] = Part(part.names, part.values / scale)
            else:
                recorded.parts[quantity] = part
        if largest:
            alive = torch.stack([(units > 0).sum() for units in largest.values()])
            known = torch.stack([(units > -torch.inf).sum() for units in largest.values()])
            wide = measure.accumulator(known.device)
            recorded.parts["dead"] = Part(list(largest), (known - alive).to(wide))
            recorded.parts["units"] = Part(list(largest), known.to(wide))

    @torch.no_grad()
    def after_step(self) -> None:
        """Read how far the optimizer has moved the weights, and the gradients as it saw them, where that is due."""
        if self._pending is None:
            return
        names, weights, copies, unscaled = self._pending
        self._pending = None
        parts = self._steps[-1].parts
        torch._foreach_sub_(copies, [measure.local(weight) for weight in weights])
        parts |= self._weights.norms("update", names, copies, like=weights)
        clipped = [weight.grad for weight in weights if weight.grad is not None]
        if unscaled and len(clipped) == len(weights):
            parts |= self._weights.norms("clipped", names, clipped)

    def flush(self) -> list[Record]:
        """The records since the last flush, brought to the host in one transfer."""
        values = [part.values.flatten() for step in self._steps for part in step.all_parts]
        numbers = torch.cat(values).tolist() if values else []
        order, records = self.layers, []
        for step in self._steps:
            count = sum(part.values.numel() for part in step.all_parts)
            records.append(step.read(numbers[:count], order))
            del numbers[:count]
        norms_of = [record.values.get("gradient_norm", {}) for record in records]
        self._weights.learn((step.sizes, norms) for step, norms in zip(self._steps, norms_of, strict=True))
        for step, record, norms in zip(self._steps, records, norms_of, strict=True):
            if step.is_full:
                self._with_gradient |= dict.fromkeys(norms)
                self._with_delta |= dict.fromkeys(record.values.get("delta_norm", ()))
            for name in step.times.keys() - record.through_time.keys():
                self._watch.reasons["dL/dh_t", "its sequences differ in length within a step"][name] = None
        self._steps.clear()
        return records


def _wrapped(model: nn.Module) -> nn.Module | None:
    """What ``torch.compile`` or DDP has been put around."""
    inner: nn.Module | None = getattr(model, "_orig_mod", None)
    return model.module if isinstance(model, DistributedDataParallel) else inner
