"""The recorder: measures gradients in any training loop, with no framework."""

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from contextlib import ExitStack
from typing import Any, Self, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.gradients import measure
from unvanish.gradients.connections import Connections
from unvanish.gradients.hook import Hook
from unvanish.gradients.hooks import Watch
from unvanish.gradients.layers import find_layers, is_compiled, of_each_rank, units_by_layer, unwrapped
from unvanish.gradients.missing import COMPILED_EARLIER, Missing, unseen
from unvanish.gradients.passes import small_batches
from unvanish.gradients.quantities import Batch, Initial, Part, Scale, Weights
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.loss import VALUE
from unvanish.gradients.ranks import LARGEST, OF_EACH_RANK, SHARED, Ranks
from unvanish.gradients.record import Record, Step
from unvanish.gradients.self_check import SelfCheck
from unvanish.gradients.structure import Structure, traits_of
from unvanish.gradients.successive import Latest
from unvanish.gradients.updates import Pending, Updates, options_of
from unvanish.gradients.weights import Parameters


@final
class GradientRecorder:
    """Measures the backward passes of any ``nn.Module`` while it trains, layer by layer.

    A layer is a module that owns a weight: a parameter with two or more axes. The norm of dL/dW is read at every step.
    At the first steps, and then at every ``every_n_steps``-th, hooks measure everything else (see ``quantities``):
    delta = dL/dz, where z is the layer's output, its activation, the update of its weights, and dL/dh_t for a
    recurrent layer. The order of the layers, the trunk, and which call feeds which come from autograd's graph.
    Micro-batches with accumulated gradients count as one batch. Calls of ``torch.autograd.grad`` between two steps
    count as well. ``notes`` lists what could not be measured.

    The values stay on the device until ``flush`` brings all of them to the host in one transfer::

        with GradientRecorder(model) as recorder:
            for step, (x, y) in enumerate(batches):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                recorder.before_step(step)
                optimizer.step()
                recorder.after_step()
            records = recorder.flush()

    Under DDP and FSDP2 every rank calls the same methods, and each gets the values of the whole batch. Compile a model,
    or call a compiled one for the first time, inside the context; everything is then measured at every step.

    Args:
        model: The module whose layers are recorded. Layers that are added or replaced later are found at the next full
            step.
        every_n_steps: Interval of full steps, at which everything is measured. A full step briefly copies the weights
            and their gradients.
        first_steps: Number of full steps at the start.
        histogram_every_n_steps: Interval of histograms; a multiple of ``every_n_steps``.
        process_group: The ranks that share a batch, if neither ``DistributedDataParallel`` nor sharded weights show
            which they are.

    Raises:
        ValueError: An interval is below 1, or ``model`` has no weight.
    """

    def __init__(
        self,
        model: nn.Module,
        every_n_steps: PositiveInt = 20,
        *,
        first_steps: int = 10,
        histogram_every_n_steps: PositiveInt = 100,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        check_bounds(GradientRecorder, locals())
        self.every_n_steps = every_n_steps
        self.first_steps = first_steps
        self.histogram_every_n_steps = histogram_every_n_steps
        self._is_compiled = is_compiled(model)
        while inner := unwrapped(model):
            process_group, model = getattr(model, "process_group", process_group), inner
        self._model, self._group = model, process_group
        self._missing = Missing()
        self._find_layers()
        if not any(name for name, _ in self._layers.parameters):
            raise ValueError(f"{type(model).__name__} has no weight, so there is no gradient to record")
        self._hooks = ExitStack()
        self._connections = Connections(model, self._missing)
        self._taken: Counter[Hashable] = Counter()
        self._with_gradient: dict[str, None] = {}
        self._with_delta: dict[str, None] = {}
        self._steps: list[Step] = []
        self._open: tuple[int, Hashable] | None = None
        self._updates, self._latest, self._check = Updates(), Latest(), SelfCheck()
        self._loss: Tensor | None = None

    def _find_layers(self) -> None:
        """Find the model's current layers."""
        self._layers = modules, pairs = find_layers(self._model)
        self._structure, self._traits = Structure(self._model, modules.values()), traits_of(self._model, modules)
        if not any(name for name, _ in pairs):
            return
        self._sharded = any(hasattr(parameter, "to_local") for _, parameter in pairs)
        group = dist.group.WORLD if self._sharded and self._group is None else self._group
        units = units_by_layer(self._layers)
        lookups = nn.Embedding, nn.EmbeddingBag  # they multiply nothing
        self._fans = {name: n for name, n in units.items() if not isinstance(modules.get(name), lookups)}
        self._ranks = None if group is None else Ranks(group, units, pairs[0][1].device)
        own = of_each_rank(self._model) if self._ranks else set()
        self._parameters = Parameters(pairs, self._ranks, is_sharded=self._sharded, own=own)
        self._missing.add("what other ranks hold", (n for n, p in pairs if n and id(p) in own), OF_EACH_RANK)
        if not hasattr(self, "_watch"):
            self._watch = Watch(modules, pairs, self._model, self._missing)
        else:
            self._watch.cover(modules, pairs)
        shared = modules.keys() - {name for name, _ in pairs}
        why = "its weight is another layer's as well, and shown there"
        self._missing.add("dL/dW", (name for name in modules if name in shared), why)

    @property
    def layers(self) -> list[str]:
        """The names of the layers from the input to the loss; layers that have not run come last."""
        return self._connections.order([*self._layers.modules, *(name for name, _ in self._layers.parameters if name)])

    @property
    def activations(self) -> dict[str, str]:
        """The kind of activation observed after each layer; identity where there is none."""
        return self._watch.activations.kinds

    @property
    def notes(self) -> list[str]:
        """What does not train, what could not be measured, and why. Complete after ``flush``."""
        missing = *self._missing.sentences(), *self._unseen().sentences()
        return [*map(str, self._connections.untrained()), *missing, *self._check.notes]

    @property
    def not_measured(self) -> dict[str, dict[str, str]]:
        """What was not measured: quantity -> layer -> reason, including layers that no gradient reached."""
        found: dict[str, dict[str, str]] = {what: {} for what in ("dL/dW", "delta")}
        for what, why, names in (*self._missing, *self._unseen()):
            found.setdefault(what, {}).update(dict.fromkeys(names, why))
        for what, measured in (("dL/dW", self._with_gradient), ("delta", self._with_delta)):
            rest = [name for name in self.layers if name not in measured and name not in found[what]]
            found[what] |= dict.fromkeys(rest, "no gradient has reached it")
        return found

    def _unseen(self) -> Missing:
        """What the hooks missed: layers with a gradient but no delta, compiled layers, unread clipped gradients."""
        told = {name for what, _, names in self._missing if what in ("delta", "what hooks see") for name in names}
        names = [n for n in self._with_gradient if n not in self._with_delta and n not in told]
        why = COMPILED_EARLIER if self._is_compiled and not self._watch.compiled else ""
        missing = unseen(names, self._layers.modules, self._watch.transformed, why)
        recurrent = [n for n in self._watch.compiled if isinstance(self._layers.modules[n], nn.RNNBase)]
        self._updates.say(missing)
        missing.add("activation", self._watch.compiled, "a compiled graph does not show it")
        missing.add("dL/dh_t", recurrent, "a compiled graph does not show it")
        return missing

    @property
    def pending_steps(self) -> int:
        """The number of steps recorded since the last flush."""
        return len(self._steps)

    def __enter__(self) -> Self:
        if self._watch.is_attached:
            raise RuntimeError("this recorder is already active")
        self._watch.clear()
        self._watch.attach()
        self._hooks.callback(register_optimizer_step_pre_hook(Hook(self._watch.fail, self._see_optimizer)).remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()
        self._watch.detach()
        self._watch.clear()
        self._check.disarm()
        self._latest.of.clear()

    def _see_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        """Take note of an optimizer that begins its step, by when gradients have been clipped."""
        self._connections.see(optimizer)
        self._updates.clipped(optimizer)

    def optimizes(self, *optimizers: Optimizer) -> None:
        """Register all optimizers, so that parameters that none of them updates are reported from the first step.

        Otherwise only optimizers of ``torch.optim`` are noticed, by their steps, and such parameters a few steps later.
        """
        self._connections.optimizers, self._connections.are_declared = optimizers, True

    def before_backward(self, loss: Tensor) -> None:
        """Read the graph of the loss at a full step; it tells more than that of the model's output."""
        if isinstance(loss, Tensor):
            self._loss = loss.detach()
            if self._watch.is_attached and loss.requires_grad:
                self._watch.look([loss], is_loss=True)

    @torch.no_grad()
    def before_step(
        self,
        step: int,
        parameters: Iterable[Tensor] | None = None,
        loss_scale: Tensor | float = 1.0,
        unscaled: bool = True,
        batch_size: int | None = None,
        loss: Tensor | None = None,
    ) -> None:
        """Read the gradients once they are complete, before they are clipped and the optimizer uses them.

        Args:
            step: Number of the optimizer step. If an optimizer evaluates the loss several times a step, as LBFGS does,
                only the first evaluation counts.
            parameters: The parameters of this optimizer; all by default.
            loss_scale: Factor by which a gradient scaler has multiplied the loss.
            unscaled: Whether ``p.grad`` has already been divided by it.
            batch_size: Samples in each micro-batch on this rank, for the gradient noise scale.
            loss: The loss, if ``before_backward`` was not called. Less can be read from its graph after the backward
                pass.
        """
        chosen = None if parameters is None else frozenset(map(id, parameters))
        if self._open == (step, chosen):
            self._missing.add("gradient after the first evaluation", ["the loss in a step"], "the optimizer asks again")
            self._watch.clear()
            self._check.forget()
            return
        self._open = (step, chosen)
        taken = self._taken[chosen]
        is_full = self._watch.is_attached and self._is_due(taken)
        is_new = not self._structure.has_its_layers() or (is_full and not self._structure.is_whole())
        if is_new:
            self._replace_layers()
            is_full = False  # this step is not counted, so the next one is full
        self._taken[chosen] += not is_new and (is_full or taken > 0)
        (names, tensors, sizes, count), gradients = self._parameters.with_gradient(chosen)
        batch = Batch(batch_size, self._ranks.size if self._ranks else 1)
        self._steps.append(recorded := Step(step, time.time(), sizes, self._fans, batch, is_full))
        self._take_loss(recorded, loss, taken)
        scale = 1.0 if unscaled else loss_scale
        if is_full:
            self._take_passes(recorded, loss_scale, scale)
            if not (self._steps[:-1] and self._connections.joins(self._steps[-2], self._watch)):
                self._connections.learn(self._watch, self._layers, chosen, recorded)
        self._updates.begin(chosen, None)
        self._latest.compare(chosen, names[:count], gradients[:count], recorded, self._parameters, scale)
        if names:
            if is_full and not taken and self._sharded:
                self._missing.add("how alike units begin", ["the network"], "no rank has whole weights")
            elif is_full and not taken:
                recorded.take(Initial(names[:count], tensors[:count]))
            recorded.take(Weights(names, tensors, gradients, self._parameters.as_they_are), scale)
            if is_full and count:
                self._latest.keep(chosen, names[:count], gradients[:count], recorded, scale)
                own = [measure.local(weight).clone() for weight in tensors[:count]]
                self._updates.begin(chosen, Pending(recorded, names, tensors, own, unscaled, self._parameters))
                if taken % self.histogram_every_n_steps == 0:
                    recorded.histograms = self._parameters.histograms(names[:count], gradients[:count])
        self._check.take(recorded, names, tensors, loss_scale=loss_scale, scale=scale)
        if self._watch.is_attached or self._watch.compiled:
            self._watch.clear(keep=chosen is not None)
        # Keep the hooks in place if the next step of any optimizer is a full one; compiled layers always keep them.
        if any(self._is_due(taken) for taken in self._taken.values()):
            self._watch.attach()
            self._check.arm(names, self._watch, is_compiled=self._is_compiled)
        else:
            self._watch.pause()

    def _is_due(self, taken: int) -> bool:
        return taken < self.first_steps or taken % self.every_n_steps == 0

    def _replace_layers(self) -> None:
        """Switch to the model's current layers; new ones are measured from the next step on."""
        before = self._layers.modules
        self._find_layers()
        new = [name for name, module in self._layers.modules.items() if before.get(name) is not module]
        self._missing.add("the first step", new, "layers were added or replaced while it ran")
        self._watch.clear()
        self._latest.of.clear()

    def _take_loss(self, recorded: Step, loss: Tensor | None, taken: int) -> None:
        """Take the loss and what it compares, and in the first steps the network's inputs."""
        found = next((one for one in (loss, self._loss, self._watch.loss) if one is not None), None)
        self._loss = None
        if found is not None and found.numel() == 1:
            recorded.parts[VALUE] = Part([""], measure.gathered([measure.number(found.detach().reshape(()))]))
        if recorded.is_full:
            recorded.ends = self._watch.take_ends(found, with_data=taken < self.first_steps)
            recorded.options = options_of(*self._connections.optimizers)

    def _take_passes(self, recorded: Step, loss_scale: Tensor | float, scale: Tensor | float) -> None:
        """Take what the hooks have measured since the last step."""
        watch, ranks = self._watch, self._ranks
        watch.activations.close()
        watch.look_back()
        recorded.activations = dict(watch.activations.kinds)
        recorded.gated, recorded.normalizations, recorded.dropout = self._traits
        recorded.astray, recorded.repeated = watch.astray, watch.repeated
        for passes in watch.passes:
            recorded.times |= passes.add_states(watch.twice)
        # If the number of micro-batches is unknown, assume several.
        watch.has_small_batches = ranks is not None or max(small_batches(watch.passes).values(), default=2) > 1
        parts, by_unit = watch.take()
        if recorded.batch.size is not None and self._sharded:
            why = "sharded weights do not show the gradient of one micro-batch"
            self._missing.add("gradient noise scale", ["the network"], why)
        if ranks:
            self._missing.add("residual stream", (name for name, _ in watch.sums), "its ranks do not know each other's")
            parts = ranks.reduce(parts, SHARED)
            by_unit = {field: ranks.largest(by_unit.get(field, {})) for field in LARGEST}
        factors = {Scale.LOSS: loss_scale, Scale.SHARE: loss_scale * recorded.batch.ranks, Scale.GRADIENT: scale}
        for field, part in parts.items():
            factor = factors.get(field.scale, 1)
            recorded.parts[field] = part.divided(factor) if isinstance(factor, Tensor) or factor != 1 else part
        for field, units in by_unit.items():
            if units and field.finish:
                recorded.parts[field] = Part(list(units), field.finish([*units.values()]))

    def after_clipping(self) -> None:
        """Read the clipped gradients. Only needed where the optimizer is none of ``torch.optim``."""
        self._updates.clipped()

    def after_step(self, optimizer: Optimizer | None = None) -> None:
        """At a full step, read how far the optimizer has moved the weights, and its state if it is given."""
        self._open = None
        self._updates.end(optimizer)

    def flush(self) -> list[Record]:
        """Bring the records since the last flush to the host, in one transfer."""
        parts = [*(part for step in self._steps for part in step.all_parts), *self._check.parts]
        tensors = [part.values.flatten() for part in parts if isinstance(part.values, Tensor)]
        brought = iter(torch.cat(tensors).tolist() if tensors else ())
        order, records = self.layers, []
        for step in self._steps:
            records.append(record := step.read(brought, order))
            if step.is_full:
                self._with_gradient |= dict.fromkeys(record.of(GRADIENT_NORM))
                self._with_delta |= dict.fromkeys(record.of(DELTA_NORM))
            uneven = step.times.keys() - record.through_time.keys()
            self._missing.add("dL/dh_t", sorted(uneven), "its sequences differ in length within a step")
        self._check.compare(self._steps, records, brought)
        self._steps.clear()
        return records
