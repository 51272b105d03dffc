"""Collects what a training loop does with its gradients, without a framework."""

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from unvanish.gradients import measure
from unvanish.gradients.graph import Trunk, common_path
from unvanish.gradients.hooks import Watch
from unvanish.gradients.layers import find_layers, plain_path, units_of
from unvanish.gradients.missing import Missing, listed
from unvanish.gradients.quantities import (
    QUANTITIES,
    Clipped,
    Part,
    Reduction,
    Scale,
    Successive,
    Update,
    Weights,
)
from unvanish.gradients.quantities.clipped import CLIPPED
from unvanish.gradients.quantities.noise import SMALL_BATCH, SMALL_BATCHES
from unvanish.gradients.quantities.stream import STREAM
from unvanish.gradients.quantities.time import LENGTH, LENGTH_SQUARE, PASSES, STATES
from unvanish.gradients.ranks import Ranks
from unvanish.gradients.record import Record, Step
from unvanish.gradients.weights import Parameters

_COMPILED_EARLIER = "it was compiled and called before the recorder was entered, and hooks added later do not run"
_NOT_CALLED = (
    "the first tensor that it returns has no part in the loss or is a view that is changed in place, its weight is "
    "used without calling it, or it was compiled before the recorder was entered"
)
_OWN = "it is a parameter of a module that holds layers as well, whose output is made by those too"
#: What the ranks bring together, each of its own share of the batch; the names of sums are known to no rank before.
_SHARED = tuple(
    dict.fromkeys(
        field
        for fields in (
            *(q.fields for q in QUANTITIES),
            (SMALL_BATCH, SMALL_BATCHES, *STATES, PASSES, LENGTH, LENGTH_SQUARE),
        )
        for field in fields
        if field.is_share and field.reduction is not Reduction.MAX and field is not STREAM
    )
)
_LARGEST = tuple(dict.fromkeys(f for q in QUANTITIES for f in q.fields if f.reduction is Reduction.MAX))


class _Pending(NamedTuple):
    """What the optimizer is about to change.

    Args:
        names: Of all parameters that have a gradient, weights first.
        parameters: These.
        copies: Of the weights, what this rank holds of them.
        is_unscaled: Whether their gradients are what they seem.
    """

    names: list[str]
    parameters: list[Tensor]
    copies: list[Tensor]
    is_unscaled: bool


@final
class GradientRecorder:
    """Measures the backward passes of any ``nn.Module`` while it trains, layer by layer.

    A layer is a module that owns a weight: a parameter with two axes or more. At every step the norm of dL/dW is read;
    at the first steps, and then at every ``every_n_steps``-th, hooks are put in place and everything is (see
    ``quantities``): delta = dL/dz, where z is what the layer returns, its activation, the update of its weights, and
    for a recurrent layer dL/dh_t. Autograd's graph tells the layers' order, which of them lie on the trunk, and which call
    feeds which. Micro-batches whose gradients accumulate count as one batch. What is differentiated by
    ``torch.autograd.grad`` between two steps counts as well. What cannot be measured is said in ``notes``.

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
        model: The module whose layers are recorded; layers that are added or replaced later are found at the next step
            at which everything is measured.
        every_n_steps: Steps between two at which everything is measured; for it, the weights and their gradients are
            copied for a moment.
        first_steps: Steps at the start at which everything is measured.
        histogram_every_n_steps: Steps between two histograms; a multiple of ``every_n_steps``.
        process_group: The ranks that share a batch, where neither a ``DistributedDataParallel`` nor sharded weights
                tell.

    Raises:
        ValueError: an interval is below 1, or ``model`` has no weight.
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
            hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
            for module in model.modules()
        )
        while inner := _wrapped(model):
            process_group, model = getattr(model, "process_group", process_group), inner
        self._model, self._group = model, process_group
        self._missing = Missing()
        self._find_layers()
        if not any(name for name, _ in self._pairs):
            raise ValueError(f"{type(model).__name__} has no weight, so there is no gradient to record")
        self._hooks = ExitStack()
        self._optimizers: tuple[Optimizer, ...] = ()
        self._distance: dict[str, int] = {}
        self._order: dict[str, None] = {}
        self._taken: Counter[Hashable] = Counter()
        #: The parameters that have wanted a gradient at every step so far, and had none.
        self._without: dict[Hashable, set[str]] = {}
        self._outside: dict[int, str] = {}
        self._with_gradient: dict[str, None] = {}
        self._with_delta: dict[str, None] = {}
        self._steps: list[Step] = []
        self._open: tuple[int, Hashable] | None = None
        self._pending: _Pending | None = None
        self._previous: dict[Hashable, tuple[list[str], list[Tensor]]] = {}
        self._trunks: tuple[Trunk, ...] = ()

    def _find_layers(self) -> None:
        """Take the model's layers as they are now."""
        modules, pairs = find_layers(self._model)
        self._pairs, self._modules = pairs, modules
        if not any(name for name, _ in pairs):
            return
        self._sharded = any(hasattr(parameter, "to_local") for _, parameter in pairs)
        group = dist.group.WORLD if self._sharded and self._group is None else self._group
        names = dict.fromkeys([*modules, *(name for name, _ in pairs if name)])
        first = {name: parameter for name, parameter in reversed(pairs) if name in modules}
        units = {name: units_of(first[name], modules[name]) if name in first else 0 for name in names}
        self._ranks = None if group is None else Ranks(group, units, pairs[0][1].device)
        self._parameters = Parameters(pairs, self._ranks if self._sharded else None)
        if not hasattr(self, "_watch"):
            self._watch = Watch(modules, pairs, self._model, self._missing)
        else:
            self._watch.cover(modules, pairs)
        owners = {name for name, _ in pairs}
        self._missing.add(
            "dL/dW", (n for n in modules if n not in owners), "its weight is another layer's as well, and shown there"
        )

    @property
    def layers(self) -> list[str]:
        """The names of the layers from the input to the loss, those that have not run last."""
        run = [name for name in self._order if name in self._distance]
        # Sorting keeps the order of the calls among layers that lie beside one another.
        known = sorted([*run, *(self._distance.keys() - set(run))], key=lambda name: -self._distance[name])
        return list(dict.fromkeys([*known, *self._order, *self._modules, *(n for n, _ in self._pairs if n)]))

    @property
    def activations(self) -> dict[str, str]:
        """The kind of activation that follows each layer, as far as one was seen; identity where there is none."""
        return self._watch.kinds

    @property
    def unconnected(self) -> list[str]:
        """What does not train although it seems to, a sentence each: the gravest that a gradient can tell."""
        taken = {id(p) for optimizer in self._optimizers for group in optimizer.param_groups for p in group["params"]}
        trained = [(plain_path(name), p) for name, p in self._model.named_parameters() if p.requires_grad]
        found = (
            ("parameter", "without a gradient", [n for n, _ in trained if any(n in s for s in self._without.values())]),
            ("weight", "of the loss that the model does not know", [*self._outside.values()]),
            ("parameter", "in no optimizer", [n for n, p in trained if self._optimizers and id(p) not in taken]),
        )
        return [
            f"{len(names)} {noun}{'s' * (len(names) > 1)} {what}: {listed(names, 'more')}"
            for noun, what, names in found
            if names
        ]

    @property
    def notes(self) -> list[str]:
        """What does not train, and what could not be measured, and why; complete after ``flush``."""
        missing = Missing()
        told = {name for what, _, names in self._missing if what in ("delta", "what hooks see") for name in names}
        unseen = [n for n in self._with_gradient if n not in self._with_delta and n not in told]
        own = [name for name in unseen if name not in self._modules]
        is_compiled_earlier = self._is_compiled and not self._watch.compiled
        missing.add("delta", own, _OWN)
        missing.add(
            "delta", (n for n in unseen if n not in own), _COMPILED_EARLIER if is_compiled_earlier else _NOT_CALLED
        )
        recurrent = [name for name in self._watch.compiled if isinstance(self._modules[name], nn.RNNBase)]
        missing.add("activation", self._watch.compiled, "a compiled graph does not show it")
        missing.add("dL/dh_t", recurrent, "a compiled graph does not show it")
        return [*self.unconnected, *self._missing.sentences(), *missing.sentences()]

    @property
    def pending_steps(self) -> int:
        """The number of steps recorded since the last flush."""
        return len(self._steps)

    def __enter__(self) -> Self:
        if self._watch.is_attached:
            raise RuntimeError("this recorder is watching already")
        self._watch.clear()
        self._watch.attach()
        # What clips the gradients has done so by the time that an optimizer begins its step.
        handle = register_optimizer_step_pre_hook(lambda *_: self.after_clipping())
        self._hooks.callback(handle.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hooks.close()
        self._watch.detach()
        self._watch.clear()
        self._previous.clear()
        self._pending = None

    def optimizes(self, *optimizers: Optimizer) -> None:
        """Say which optimizers there are, so that it can be said which parameters none of them changes."""
        self._optimizers = optimizers

    def before_backward(self, loss: Tensor) -> None:
        """Read the graph of the loss, which tells more than the model's output; where everything is measured."""
        if self._watch.is_attached and isinstance(loss, Tensor) and loss.requires_grad:
            self._watch.look([loss], is_loss=True)

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
            step: Number of the optimizer step. Where an optimizer evaluates the loss several times a step, as LBFGS
                does, the first evaluation counts.
            parameters: Those that this optimizer changes, where it is not all of them.
            loss_scale: What a gradient scaler has multiplied the loss by.
            unscaled: Whether the scale has been taken out of ``p.grad`` already.
            batch_size: Samples in each micro-batch on this rank, for the gradient noise scale.
        """
        chosen = None if parameters is None else frozenset(map(id, parameters))
        if self._open == (step, chosen):
            self._missing.add("gradient after the first evaluation", ["the loss in a step"], "the optimizer asks again")
            self._watch.clear()
            return
        self._open = (step, chosen)
        taken = self._taken[chosen]
        is_full = self._watch.is_attached and self._is_due(taken)
        if is_full and (found := find_layers(self._model)) != (self._modules, self._pairs):
            self._replace_layers(found.modules)
        (names, tensors, sizes, count), gradients = self._parameters.with_gradient(chosen)
        self._taken[chosen] += is_full or taken > 0
        recorded = Step(step, time.time(), sizes, batch_size, self._ranks.size if self._ranks else 1, is_full)
        self._steps.append(recorded)
        if is_full and self._steps[:-1] and not self._watch.seen:
            # Nothing has run since the step of another optimizer: one backward pass for both of them.
            self._steps[-2].trunks, self._steps[-2].part = self._trunks, ""
        if is_full:
            self._take_passes(recorded, loss_scale)
            self._connect(chosen, recorded)
        self._pending = None
        previous = self._previous.pop(chosen, None)
        if names:
            scale = 1.0 if unscaled else loss_scale
            whole = self._parameters.whole()
            self._read(recorded, Weights(names, tensors, gradients, whole), scale)
            if previous is not None and count and previous[0] == names[:count]:
                shards = self._parameters.whole(gradients[:count])
                self._read(recorded, Successive(names[:count], previous[1], gradients[:count], shards), scale)
            if is_full and count:
                copies = [measure.local(gradient).clone() for gradient in gradients[:count]]
                if isinstance(scale, Tensor) or scale != 1:
                    torch._foreach_div_(copies, scale)
                self._previous[chosen] = names[:count], copies
                own = [measure.local(weight).clone() for weight in tensors[:count]]
                self._pending = _Pending(names, tensors, own, unscaled)
                if taken % self.histogram_every_n_steps == 0:
                    recorded.histograms = self._parameters.histograms(names[:count], gradients[:count])
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

    def _replace_layers(self, modules: dict[str, nn.Module]) -> None:
        """Go on with the layers that the model has now, the new ones from the next step on."""
        new = [name for name, module in modules.items() if self._modules.get(name) is not module]
        self._missing.add("the first step", new, "layers were added or replaced while it ran")
        self._find_layers()
        self._watch.clear()
        self._previous.clear()

    def _read(self, recorded: Step, moment: Any, scale: Tensor | float = 1.0) -> None:
        """Have the quantities of this moment read, and what a scaler has done to gradients taken out."""
        for quantity in QUANTITIES:
            if quantity.read is None or quantity.moment is not type(moment):
                continue
            if not (quantity.every_step or recorded.is_full or isinstance(moment, Successive)):
                continue
            for field, (names, values) in quantity.read(moment).items():
                is_scaled = field.scale is Scale.GRADIENT and (isinstance(scale, Tensor) or scale != 1)
                recorded.parts[field] = Part(names, values / scale if is_scaled else values)

    def _take_passes(self, recorded: Step, loss_scale: Tensor | float) -> None:
        """What the hooks have seen since the last step."""
        watch, ranks = self._watch, self._ranks
        watch.close_layer()
        # A pass that leaves layers out, as stochastic depth does, says nothing about their place.
        if watch.seen.keys() >= self._order.keys():
            self._order = watch.seen
        self._take_states(recorded)
        watch.has_small_batches = ranks is not None or watch.small_batches > 1
        parts, by_unit = watch.take()
        if recorded.batch_size is not None and self._sharded:
            why = "sharded weights do not show the gradient of one micro-batch"
            self._missing.add("gradient noise scale", ["the network"], why)
        if ranks:
            self._missing.add("residual stream", (name for name, _ in watch.sums), "its ranks do not know each other's")
            parts = ranks.reduce(parts, _SHARED)
            by_unit = {field: ranks.largest(by_unit.get(field, {})) for field in _LARGEST}
        for field, (names, values) in parts.items():
            scale = {Scale.LOSS: loss_scale, Scale.SHARE: loss_scale * recorded.ranks}.get(field.scale)
            recorded.parts[field] = Part(names, values if scale is None else values / scale)
        for field, units in by_unit.items():
            if units and field.finish:
                recorded.parts[field] = Part(list(units), torch.stack([field.finish(u) for u in units.values()]))

    def _take_states(self, recorded: Step) -> None:
        """dL/dh_t of recurrent layers: of torch's own by repeating their passes, of repeated calls by their deltas."""
        for passes in self._watch.passes:
            found = [(name, p.times, p.state_gradients()) for name, p in passes.recurrent if p.has_gradient]
            for name, by_time in passes.sequences.items():
                times = sorted(by_time)
                norms = torch.stack([torch.stack(by_time[t]).norm() for t in times])
                found.append((name, times, norms))
            for name, times, states in found:
                recorded.times[name] = times
                for field, number in ((PASSES, 1), (LENGTH, times[-1]), (LENGTH_SQUARE, times[-1] ** 2)):
                    passes.found[field].append((name, number))
                for field, norm in zip(STATES, states, strict=False):
                    passes.found[field].append((name, norm))

    def _connect(self, chosen: frozenset[int] | None, recorded: Step) -> None:
        """What autograd's graph has told, and what has no gradient."""
        watch = self._watch
        mine = {name: p for name, p in self._model.named_parameters() if chosen is None or id(p) in chosen}
        # With an optimizer that steps in the backward pass, the gradient has come and is gone.
        gone = {name for name, p in self._pairs if name and p.grad is None and watch.has_seen(name)}
        self._missing.add(
            "dL/dW", gone, "its gradient was gone before the step: an optimizer stepped in the backward pass"
        )
        without = {plain_path(n) for n, p in mine.items() if p.requires_grad and p.grad is None} if not gone else set()
        self._without[chosen] = self._without.get(chosen, without) & without
        known = {id(p): name for name, p in self._pairs}
        if watch.leaves and not self._sharded:
            shapes = {p.shape for _, p in self._pairs if p.dim() > 1}
            self._outside = {
                index: str(tuple(leaf.shape))
                for index, (leaf, _) in watch.leaves.items()
                if index not in known and (isinstance(leaf, nn.Parameter) or leaf.shape in shapes)
            }
        own = {known[i]: d for i, (_, d) in watch.leaves.items() if known.get(i) and known[i] not in self._modules}
        if watch.distance.keys() >= self._distance.keys() - own.keys():
            self._distance = watch.distance | own
        others = {name for name, p in self._pairs if p.requires_grad and chosen is not None and id(p) not in chosen}
        self._trunks = tuple(watch.trunks)
        recorded.trunks = tuple(filter(None, (_without_layers(trunk, others) for trunk in self._trunks)))
        if others:
            names = [name for name, p in self._pairs if name and chosen is not None and id(p) in chosen]
            recorded.part = common_path(names) or names[0] if names else ""
        silent = {name for name, p in self._pairs if p.requires_grad and p.grad is None}
        recorded.unreached = tuple(name for name in watch.cut if name in silent - others - gone)

    def after_clipping(self) -> None:
        """Read the gradients as the optimizer will see them; whoever uses optimizers of torch need not call this."""
        if self._pending is None or not self._pending.is_unscaled or CLIPPED in self._steps[-1].parts:
            return
        names, parameters, *_ = self._pending
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if len(gradients) == len(parameters):
            with torch.no_grad():
                self._read(self._steps[-1], Clipped(names, gradients, self._parameters.whole()))

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer | None = None) -> None:
        """Read how far the optimizer has moved the weights, and its state where it is given; where that is due."""
        self._open = None
        if self._pending is None:
            return
        names, parameters, copies, _ = self._pending
        self._pending = None
        weights = parameters[: len(copies)]
        moved = [*torch._foreach_sub([measure.local(weight) for weight in weights], copies)]
        self._read(
            self._steps[-1], Update(names[: len(copies)], weights, moved, optimizer, self._parameters.whole(weights))
        )

    def flush(self) -> list[Record]:
        """The records since the last flush, brought to the host in one transfer."""
        values = [part.values.flatten() for step in self._steps for part in step.all_parts]
        numbers = torch.cat(values).tolist() if values else []
        order, records, position = self.layers, [], 0
        for step in self._steps:
            count = sum(part.values.numel() for part in step.all_parts)
            record = step.read(numbers[position : position + count], order)
            position += count
            records.append(record)
            if step.is_full:
                self._with_gradient |= dict.fromkeys(record.values.get("gradient_norm", ()))
                self._with_delta |= dict.fromkeys(record.values.get("delta_norm", ()))
            uneven = step.times.keys() - record.through_time.keys()
            self._missing.add("dL/dh_t", sorted(uneven), "its sequences differ in length within a step")
        self._steps.clear()
        return records


def _without_layers(trunk: Trunk, others: set[str]) -> Trunk | None:
    """What lies between the first and the last layer that is left."""
    left = [index for index, name in enumerate(trunk.layers) if name not in others and not name.endswith("+")]
    if not left or not others:
        return None if others else trunk
    kept = [name for name in trunk.layers[left[0] : left[-1] + 1] if name not in others]
    return trunk._replace(layers=tuple(kept), heads=tuple(name for name in trunk.heads if name not in others))


def _wrapped(model: nn.Module) -> nn.Module | None:
    """What ``torch.compile`` or DDP has been put around."""
    inner: nn.Module | None = getattr(model, "_orig_mod", None)
    return model.module if isinstance(model, DistributedDataParallel | nn.DataParallel) else inner
