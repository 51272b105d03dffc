"""The hooks of a recorder: what they see in forward and backward passes, until it is taken."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unvanish.gradients import graph, measure
from unvanish.gradients.graph import Look, Trunk
from unvanish.gradients.hook import Hook, Tap, with_first_tensor
from unvanish.gradients.layers import ACTIVATIONS, activation_path, find_activation, first_tensor
from unvanish.gradients.missing import Missing
from unvanish.gradients.passes import Call, Passes, together
from unvanish.gradients.quantities import QUANTITIES, Delta, Field, Output, Part, Stream
from unvanish.gradients.quantities.delta import DELTA, DELTA_COUNT
from unvanish.gradients.quantities.noise import SMALL_BATCH, SMALL_BATCHES
from unvanish.gradients.ranks import on_device
from unvanish.gradients.recurrent import RecurrentPass, chosen_times, why_not

#: Beside the layers' names, those of the hooks on all activations, on all weights, and on the model itself.
_ACTIVATIONS, _WEIGHTS, _MODEL = "activations:", "weights:", "model:"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _trace(watch: "Watch", name: str) -> None:
    """Note that a layer is compiled: run while its graph is traced, and no part of that graph."""
    watch.compiled[name] = None
    watch.seen.setdefault(name)


@final
class Watch:
    """Hooks on layers, activations and weights; what they see adds up until ``clear``.

    Args:
        modules: The layers by name.
        parameters: Their weights, with the layers' names.
        model: What they are part of.
        missing: What could not be measured.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        parameters: Sequence[tuple[str, Tensor]],
        model: nn.Module,
        missing: Missing,
    ) -> None:
        self.model = model
        self.missing = missing
        self.kinds: dict[str, str] = {}
        #: The layers that are part of a compiled graph.
        self.compiled: dict[str, None] = {}
        #: Whether the last step had several micro-batches on this rank, or the batch is shared with others.
        self.has_small_batches = True
        self.is_attached = self.has_failed = False
        self._buffer: Tensor | None = None
        self._handles: dict[str, list[RemovableHandle]] = defaultdict(list)
        self.sums: list[tuple[str, RemovableHandle]] = []
        self.cover(modules, parameters)
        self.clear()

    def cover(self, modules: dict[str, nn.Module], parameters: Sequence[tuple[str, Tensor]]) -> None:
        """Watch these layers; hooks on others are taken away."""
        self.detach()
        self.modules = {
            name: module for name, module in modules.items() if not isinstance(module, torch.jit.ScriptModule)
        }
        self.missing.add("delta", modules.keys() - self.modules.keys(), "TorchScript allows no hooks on it")
        self.weights = [(name, weight) for name, weight in parameters if name]
        self.activations = [module for module in self.model.modules() if type(module) in ACTIVATIONS]
        self._rows = {name: row for row, name in enumerate(self.modules)}
        self._buffer = None

    @property
    def _device(self) -> torch.device:
        return self.weights[0][1].device

    def clear(self) -> None:
        """Begin a step."""
        self.seen: dict[str, None] = {}
        self.distance: dict[str, int] = {}
        self.trunks: dict[Trunk, None] = {}
        self.leaves: dict[int, tuple[Tensor, int]] = {}
        self.side: set[str] = set()
        self.cut: set[str] = set()
        self.twice: set[str] = set()
        self.passes = [Passes()]
        self._calls: dict[graph.Node, Call] = {}
        self._latest: tuple[Call, Tensor, Any] | None = None
        self._forget_sums()
        if self._buffer is not None and self.compiled:
            self._buffer.zero_()

    def attach(self) -> None:
        """Put the hooks in place, where they are not."""
        if self.is_attached or self.has_failed:
            return
        self.is_attached = True
        if self._buffer is None or self._buffer.device != self._device:
            # Allocated here because a compiled graph cannot: one row a layer.
            wide = measure.accumulator(self._device)
            self._buffer = torch.zeros(len(self.modules), 2, dtype=wide, device=self._device)
        for name, module in self.modules.items():
            if not self._handles[name]:
                see = Hook(self.fail, partial(self._see_layer, name))
                self._handles[name].append(module.register_forward_hook(see, with_kwargs=True))
        for module in () if self._handles[_ACTIVATIONS] else self.activations:
            self._handles[_ACTIVATIONS].append(module.register_forward_hook(Hook(self.fail, self._see_activation)))
        if not self._handles[_MODEL] and not isinstance(self.model, torch.jit.ScriptModule):
            self._handles[_MODEL].append(self.model.register_forward_hook(Hook(self.fail, self._see_model)))
        counted: set[str] = set()
        for name, weight in self.weights:
            # Of a step with a single small batch there is nothing to learn; one layer tells when there are more again.
            if weight.requires_grad and (self.has_small_batches or not counted):
                see_gradient = partial(self._see_small_batch, name, weight, name not in counted)
                self._handles[_WEIGHTS].append(self._on_gradient(weight, see_gradient))
                counted.add(name)

    def pause(self) -> None:
        """Take the hooks away; but in a compiled graph leave those that it was made with, or it is made anew."""
        kept = {*self.compiled, _ACTIVATIONS, _MODEL} if self.compiled else set()
        for name in self._handles.keys() - kept:
            for handle in self._handles.pop(name):
                handle.remove()
        self.is_attached = False

    def detach(self) -> None:
        """Take all hooks away."""
        for handles in self._handles.values():
            for handle in handles:
                handle.remove()
        self._handles.clear()
        self.is_attached = False

    def fail(self, error: Exception) -> None:
        """Say what went wrong in a hook, and watch no more."""
        self.has_failed = True
        self.detach()
        why = f"a hook failed and all are gone ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        self.missing.add("what hooks see", self.modules, why)

    @property
    def small_batches(self) -> int:
        """How many micro-batches this rank has seen; 2 where nobody knows."""
        total = sum((Counter(passes.small_batches) for passes in self.passes), Counter[str]())
        return max(total.values(), default=2)

    def has_seen(self, name: str) -> bool:
        """Whether a gradient has come to a weight of this layer."""
        return any(name in passes.small_batches for passes in self.passes)

    def take(self) -> tuple[dict[Field, Part], dict[Field, dict[str, Tensor]]]:
        """Scalars, those of a layer that ran several times still side by side; and numbers a unit, by layer."""
        whole = together(self.passes)
        found = whole.found
        if self.twice:
            why = "the same output was differentiated more than once in a step, as by two losses on one graph"
            self.missing.add("delta", self.twice, why)
            self.missing.add("gradient noise scale", ["the network"], why)
            for field in (DELTA, DELTA_COUNT):
                found[field] = [(name, value) for name, value in found[field] if name not in self.twice]
            found.pop(SMALL_BATCH, None)
            found.pop(SMALL_BATCHES, None)
        parts = {field: self._part(values) for field, values in found.items() if values}
        if self.compiled and self._buffer is not None:
            for field, column in ((DELTA, self._buffer[:, 0].sqrt()), (DELTA_COUNT, self._buffer[:, 1].clone())):
                names, values = parts.get(field, Part([], column.new_zeros(0)))
                parts[field] = Part([*names, *self.modules], torch.cat([values, column]))
        return parts, whole.by_unit

    def _part(self, found: list[tuple[str, Any]]) -> Part:
        wide = measure.accumulator(self._device)
        names, values = [name for name, _ in found], [value for _, value in found]
        if not isinstance(values[0], Tensor):
            return Part(names, on_device(values, self._device, wide))
        return Part(names, torch.stack([value.to(wide) for value in values]))

    def _see_layer(self, name: str, module: nn.Module, inputs: Any, keywords: Any, output: Any) -> Any:
        z = first_tensor(output)
        if torch.compiler.is_compiling():
            if z is None or not z.requires_grad:
                return None
            _trace(self, name)
            return with_first_tensor(output, Tap.apply(z, self._buffer, self._rows[name]))
        if torch._C._are_functorch_transforms_active():
            self.missing.add("delta", [name], "it was run by a transform of torch.func")
            return None
        self.seen.setdefault(name)
        self.close_layer(inputs[0] if inputs else None)
        if z is None or not z.requires_grad or z.grad_fn is None:
            return None
        if why := "nested" if z.is_nested else "a scalar" if z.dim() == 0 else "":
            self.missing.add("delta", [name], f"it returns a tensor that is {why}")
            return None
        if self.passes[-1].has_delta:
            self.passes.append(Passes())
        call = self._calls[z.grad_fn] = Call(name, self.passes[-1])
        # Unlike a backward hook on the module, a hook on the tensor allows an in-place ReLU behind it.
        self._on_gradient(z, partial(self._see_delta, call))
        self._latest = call, z, z.grad_fn
        if isinstance(module, nn.RNNBase):
            self._see_states(name, module, (*inputs, *(keywords[k] for k in ("input", "hx") if k in keywords)), output)
        return None

    def _see_states(self, name: str, module: nn.RNNBase, inputs: Any, output: Any) -> None:
        is_sharded = any(hasattr(weight, "to_local") for layer, weight in self.weights if layer == name)
        if reason := why_not(module, inputs) or ("its weights are sharded" if is_sharded else None):
            self.missing.add("dL/dh_t", [name], reason)
        else:
            self.passes[-1].recurrent.append((name, RecurrentPass(module, inputs, output, self._on_gradient)))

    def _see_model(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The model's own output is the best that is known of the loss until that is given."""
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            return
        tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad]
        # A model that returns its loss, as those of transformers do, returns much beside it.
        self.look([tensor for tensor in tensors if tensor.dim() == 0][:1] or tensors)

    def look(self, roots: Iterable[Tensor], *, is_loss: bool = False) -> None:
        """Read the graph of what will be differentiated; a loss knows better than a model's output."""
        if is_loss:
            self._forget_sums()
            self.trunks.clear()
        calls = {node: call.name for node, call in self._calls.items() if not call.is_taken}
        found = graph.look(roots, calls)
        if found is None:
            why = f"the graph has more than {graph.LARGEST:,} nodes"
            self.missing.add("order and residual stream", ["the network"], why)
            return
        self._learn(found)
        for name, node in found.sums:
            handle = node.register_prehook(Hook(self.fail, partial(self._see_sum, name, self.passes[-1])))
            self.sums.append((name, handle))
        lengths: dict[str, int] = defaultdict(int)
        for node, time in found.times.items():
            call = self._calls[node]
            call.time = time
            lengths[call.name] = max(lengths[call.name], time)
        for node in found.times:
            call = self._calls[node]
            if call.time not in chosen_times(lengths[call.name]):
                call.time = None

    def _learn(self, found: Look) -> None:
        for name, distance in found.distance.items():
            self.distance[name] = min(distance, self.distance.get(name, distance))
        self.trunks |= dict.fromkeys(found.trunks)
        self.leaves |= {id(leaf): (leaf, distance) for leaf, distance in found.leaves}
        self.side |= found.side
        self.cut = (self.cut | found.cut) - self.distance.keys()

    def _forget_sums(self) -> None:
        for _, handle in self.sums:
            handle.remove()
        self.sums.clear()

    def _see_sum(self, name: str, passes: Passes, gradients: tuple[Tensor | None, ...]) -> None:
        if gradients[0] is not None:
            self._read(passes, name, Stream(gradients[0].detach()))

    def _read(self, passes: Passes, name: str, moment: Delta | Stream) -> None:
        for quantity in QUANTITIES:
            if quantity.moment is type(moment) and quantity.read is not None:
                for field, value in quantity.read(moment).items():
                    passes.add(field, name, value)

    def _see_activation(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if torch.compiler.is_compiling() or self._latest is None or not output.requires_grad:
            return
        call, _, origin = self._latest
        if activation_path(output, origin) is not None:
            self._latest = None
            self._measure_activation(call, ACTIVATIONS[type(module)], output)

    def close_layer(self, next_input: Any = None) -> None:
        """Measure the activation of the latest layer, where no module has shown it."""
        if self._latest is None:
            return
        call, z, origin = self._latest
        self._latest = None
        self._measure_activation(call, *find_activation(z, origin, next_input))

    @torch.no_grad()
    def _measure_activation(self, call: Call, kind: str, activation: Tensor | None) -> None:
        call.kind = kind
        if activation is None:
            self.missing.add("activation", [call.name], "the next layer shows only what was made of it")
        elif activation.is_floating_point() and activation.numel():
            output = Output(self.modules[call.name], kind, activation.detach())
            for quantity in QUANTITIES:
                if quantity.moment is Output and quantity.read is not None:
                    call.activation |= quantity.read(output)
        if call.is_taken:
            self._take_activation(call)

    def _take_activation(self, call: Call) -> None:
        self.kinds[call.name] = call.kind
        for field, value in call.activation.items():
            call.passes.add(field, call.name, value)
        call.activation.clear()

    def _see_delta(self, call: Call, delta: Tensor | None) -> None:
        if delta is None:  # of a fused recurrent layer, where the loss uses its state alone
            return
        call.passes.has_delta = True
        if call.is_taken:
            self.twice.add(call.name)
            return
        call.is_taken = True
        self._read(call.passes, call.name, Delta(delta.detach()))
        if call.time is not None:
            call.passes.sequences[call.name][call.time].append(measure.norm(delta.detach()))
        self._take_activation(call)

    def _see_small_batch(self, name: str, weight: Tensor, is_first: bool, gradient: Tensor) -> None:
        """A weight's own hook sees the gradient of one micro-batch on one rank, before it is added to any other."""
        if weight.grad is None and any(passes.small_batches.get(name) for passes in self.passes[:-1]):
            # What earlier passes have left was thrown away, as SAM's first one is: they are no part of this step.
            self.passes = self.passes[-1:]
        passes = self.passes[-1]
        passes.small_batches[name] += is_first  # once a layer, however many weights it has
        passes.add(SMALL_BATCH, name, measure.norm(gradient.detach()))
        passes.add(SMALL_BATCHES, name, int(is_first))

    def _on_gradient(self, tensor: Tensor, see: Callable[[Tensor], None]) -> RemovableHandle:
        handle: RemovableHandle = tensor.register_hook(Hook(self.fail, see))  # type: ignore[no-untyped-call]
        return handle


def _tensors(output: Any) -> list[Tensor]:
    """All tensors that a model returns, however nested."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [t for part in output for t in _tensors(part)] if isinstance(output, list | tuple) else []
