"""Collects what a training loop does with its gradients, without a framework."""

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from contextlib import ExitStack
from typing import Self, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

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
from unvanish.gradients.ranks import LARGEST, SHARED, Ranks
from unvanish.gradients.record import Record, Step
from unvanish.gradients.self_check import SelfCheck
from unvanish.gradients.structure import Structure
from unvanish.gradients.successive import Latest
from unvanish.gradients.updates import Pending, Updates, options_of
from unvanish.gradients.weights import Parameters

_OF_EACH_RANK = "DistributedDataParallel leaves them out, so each rank trains its own"


@final
class GradientRecorder:
    """Measures the backward passes of any ``nn.Module`` while it trains, layer by layer.

    A layer is a module that owns a weight: a parameter with two axes or more. At every step the norm of dL/dW is read;
    at the first steps, and then at every ``every_n_steps``-th, hooks are put in place and everything is (see
    ``quantities``): delta = dL/dz, where z is what the layer returns, its activation, the update of its weights, and
    for a recurrent layer dL/dh_t. Autograd's graph tells the layers' order, which lie on the trunk, and which call
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
        self._updates = Updates()
        self._latest, self._check = Latest(), SelfCheck()
        self._loss: Tensor | None = None

    def _find_layers(self) -> None:
        """Take the model's layers as they are now."""
        self._layers = modules, pairs = find_layers(self._model)
        self._structure = Structure(self._model, modules.values())
        if not any(name for name, _ in pairs):
            return
        self._sharded = any(hasattr(parameter, "to_local") for _, parameter in pairs)
        group = dist.group.WORLD if self._sharded and self._group is None else self._group
        units = units_by_layer(self._layers)
        fed_words = (nn.Embedding, nn.EmbeddingBag)  # which multiply nothing
        self._fans = {name: n for name, n in units.items() if not isinstance(modules.get(name), fed_words)}
        self._ranks = None if group is None else Ranks(group, units, pairs[0][1].device)
        own = of_each_rank(self._model) if self._ranks else set()
        self._parameters = Parameters(pairs, self._ranks, is_sharded=self._sharded, own=own)
        self._missing.add("what other ranks hold", (name for name, p in pairs if name and id(p) in own), _OF_EACH_RANK)
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
        return self._connections.order([*self._layers.modules, *(name for name, _ in self._layers.parameters if name)])

    @property
    def activations(self) -> dict[str, str]:
        """The kind of activation that follows each layer, as far as one was seen; identity where there is none."""
        return self._watch.activations.kinds

    @property
    def notes(self) -> list[str]:
        """What does not train, and what could not be measured, and why; complete after ``flush``."""
        missing = *self._missing.sentences(), *self._unseen().sentences()
        return [*map(str, self._connections.untrained()), *missing, *self._check.notes]

    @property
    def not_measured(self) -> dict[str, dict[str, str]]:
        """The same by what was not measured and by layer, all of them: those that no gradient has come to as well."""
        found: dict[str, dict[str, str]] = {what: {} for what in ("dL/dW", "delta")}
        for what, why, names in (*self._missing, *self._unseen()):
            found.setdefault(what, {}).update(dict.fromkeys(names, why))
        for what, measured in (("dL/dW", self._with_gradient), ("delta", self._with_delta)):
            rest = [name for name in self.layers if name not in measured and name not in found[what]]
            found[what] |= dict.fromkeys(rest, "no gradient has come to it")
        return found

    def _unseen(self) -> Missing:
        """What the hooks have not seen of layers that have a gradient, and no step after clipping."""
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
            raise RuntimeError("this recorder is watching already")
        self._watch.clear()
        self._watch.attach()
        # What clips the gradients has done so by the time that an optimizer begins its step.
        see = Hook(self._watch.fail, lambda optimizer, *_: self._updates.clipped(optimizer))
        handle = register_optimizer_step_pre_hook(see)
        self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()
        self._watch.detach()
        self._watch.clear()
        self._check.disarm()
        self._latest.of.clear()

    def optimizes(self, *optimizers: Optimizer) -> None:
        """Say which optimizers there are, so that it can be said which parameters none of them changes."""
        self._connections.optimizers = optimizers

    def before_backward(self, loss: Tensor) -> None:
        """Read the graph of the loss, which tells more than the model's output; where everything is measured."""
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
            step: Number of the optimizer step. Where an optimizer evaluates the loss several times a step, as LBFGS
                does, the first evaluation counts.
            parameters: Those that this optimizer changes, where it is not all of them.
            loss_scale: What a gradient scaler has multiplied the loss by.
            unscaled: Whether the scale has been taken out of ``p.grad`` already.
            batch_size: Samples in each micro-batch on this rank, for the gradient noise scale.
            loss: What was differentiated, where ``before_backward`` did not get it; then its numbers tell less.
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
            is_full = False  # the next one is, since this is not counted
        self._taken[chosen] += not is_new and (is_full or taken > 0)
        (names, tensors, sizes, count), gradients = self._parameters.with_gradient(chosen)
        batch = Batch(batch_size, self._ranks.size if self._ranks else 1)
        recorded = Step(step, time.time(), sizes, self._fans, batch, is_full)
        self._steps.append(recorded)
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
        # The hooks are in place where any optimizer's next step is due; what is compiled keeps them.
        if any(self._is_due(taken) for taken in self._taken.values()):
            self._watch.attach()
            self._check.arm(names, self._watch, is_compiled=self._is_compiled)
        else:
            self._watch.pause()

    def _is_due(self, taken: int) -> bool:
        return taken < self.first_steps or taken % self.every_n_steps == 0

    def _replace_layers(self) -> None:
        """Go on with the layers that the model has now, the new ones from the next step on."""
        before = self._layers.modules
        self._find_layers()
        new = [name for name, module in self._layers.modules.items() if before.get(name) is not module]
        self._missing.add("the first step", new, "layers were added or replaced while it ran")
        self._watch.clear()
        self._latest.of.clear()

    def _take_loss(self, recorded: Step, loss: Tensor | None, taken: int) -> None:
        """The loss, and what it compares; what the network was fed, in the first steps."""
        found = next((one for one in (loss, self._loss, self._watch.loss) if one is not None), None)
        self._loss = None
        if found is not None and found.numel() == 1:
            recorded.parts[VALUE] = Part([""], measure.gathered([measure.number(found.detach().reshape(()))]))
        if recorded.is_full:
            recorded.ends = self._watch.take_ends(found, with_data=taken < self.first_steps)
            recorded.options = options_of(*self._connections.optimizers)

    def _take_passes(self, recorded: Step, loss_scale: Tensor | float, scale: Tensor | float) -> None:
        """What the hooks have seen since the last step."""
        watch, ranks = self._watch, self._ranks
        watch.activations.close()
        watch.look_back()
        recorded.activations = dict(watch.activations.kinds)
        recorded.gated, recorded.normalizations, recorded.dropout = watch.gated, watch.normalizations, watch.dropout
        recorded.astray = watch.astray
        for passes in watch.passes:
            recorded.times |= passes.add_states(watch.twice)
        # Where nobody knows how many there were, there may be several.
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
        """Read the gradients as the optimizer will see them; whoever uses optimizers of torch need not call this."""
        self._updates.clipped()

    def after_step(self, optimizer: Optimizer | None = None) -> None:
        """Read how far the optimizer has moved the weights, and its state where it is given; where that is due."""
        self._open = None
        self._updates.end(optimizer)

    def flush(self) -> list[Record]:
        """The records since the last flush, brought to the host in one transfer."""
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
