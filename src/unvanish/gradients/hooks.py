"""The recorder's hooks on forward and backward passes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unvanish.gradients import graph, measure
from unvanish.gradients.activations import Activations
from unvanish.gradients.attention import Astray, astray
from unvanish.gradients.ends import Ends
from unvanish.gradients.hook import Hook, Tap, is_transformed, viewed, with_first_tensor
from unvanish.gradients.layers import ACTIVATIONS, all_tensors, first_tensor
from unvanish.gradients.missing import Missing
from unvanish.gradients.passes import Call, Calls, Passes, together, with_small_batch
from unvanish.gradients.quantities import READERS, Delta, Field, Part, Stream
from unvanish.gradients.quantities.delta import DELTA, DELTA_COUNT
from unvanish.gradients.recurrent import RecurrentPass, why_not
from unvanish.gradients.sight import Sight, storage

#: Keys of the hooks on all activations, on all weights, and on the model; other keys are names of layers.
_ACTIVATIONS, _WEIGHTS, _MODEL = "activations:", "weights:", "model:"

#: The steps whose graphs are searched for softmaxes: a network does not change them.
_FIRST = 3


def _tracer(watch: "Watch", name: str) -> Callable[[], None]:
    """Return a function that marks a layer as compiled. It runs while the graph is traced and is not part of it."""

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def trace() -> None:  # torch 2.11 takes no object as an argument here
        watch.compiled[name] = None
        watch.seen.setdefault(name)

    return trace  # type: ignore[no-any-return]


@final
class Watch:
    """Hooks on layers, activations and weights, and what they have measured since the last ``clear``.

    Args:
        modules: The layers by name.
        parameters: Their weights, with the layers' names.
        model: The whole model.
        missing: Collects what cannot be measured.
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
        self.activations = Activations(missing)
        #: The layers in a compiled graph.
        self.compiled: dict[str, None] = {}
        #: The layers that a transform of ``torch.func`` has run.
        self.transformed: dict[str, None] = {}
        #: Whether the last step had several micro-batches on this rank, or the batch is shared with others.
        self.has_small_batches = self._counts_all = True
        self.is_attached = self.has_failed = False
        self._buffer: Tensor | None = None
        self._handles: dict[str, list[RemovableHandle]] = defaultdict(list)
        self.sums: list[tuple[str, RemovableHandle]] = []
        self._calls = Calls()
        self.passes: list[Passes] = []
        self._step = 0
        #: As the first steps' graphs have shown them.
        self.astray: tuple[Astray, ...] = ()
        #: The layers that were called several times for the last graph, but not as those of a recurrence.
        self.repeated: tuple[str, ...] = ()
        self.cover(modules, parameters)
        self.clear()

    def cover(self, modules: dict[str, nn.Module], parameters: Sequence[tuple[str, Tensor]]) -> None:
        """Set the layers to measure, and remove all hooks."""
        self.detach()
        self.modules = {
            name: module for name, module in modules.items() if not isinstance(module, torch.jit.ScriptModule)
        }
        scripted = [name for name in modules if name not in self.modules]
        self.missing.add("delta", scripted, "TorchScript allows no hooks on it")
        self.weights = [(name, weight) for name, weight in parameters if name]
        self._functions = [module for module in self.model.modules() if type(module) in ACTIVATIONS]
        self._rows = {name: row for row, name in enumerate(self.modules)}
        self._buffer = None

    @property
    def _device(self) -> torch.device:
        return self.weights[0][1].device

    def clear(self, *, keep: bool = False) -> None:
        """Begin a step.

        Args:
            keep: Whether forward passes that were not differentiated yet may be at this step, as a generator's is that
                ran before its critic's step.
        """
        self._step += 1
        self.seen: dict[str, None] = {}
        self.sight = Sight()
        self.twice: dict[str, None] = {}
        waiting = [one for passes in self.passes for one in passes.recurrent if keep and not one[1].has_gradient]
        self.passes = [Passes()]
        kept = self._calls.keep(self._step - 1 if keep else self._step)  # for one step only
        self.passes[0].recurrent = [(name, one) for name, one in waiting if name in kept]
        self.activations.forget()
        self.loss: Tensor | None = None
        self.ends = Ends()
        self._last: tuple[Tensor, int] | None = None
        self._forget_sums()
        if self._buffer is not None and self.compiled:
            self._buffer.zero_()

    def attach(self) -> None:
        """Register the hooks that are not yet in place."""
        if self.has_failed or (self.is_attached and self._counts_all == self.has_small_batches):
            return
        self.is_attached = True
        if self._buffer is None or self._buffer.device != self._device:
            # One row a layer; a compiled graph cannot allocate it.
            wide = measure.accumulator(self._device)
            self._buffer = torch.zeros(len(self.modules), 2, dtype=wide, device=self._device)
        for name, module in self.modules.items():
            if not self._handles[name]:
                see = Hook(self.fail, partial(self._see_layer, name, _tracer(self, name)))
                self._handles[name].append(module.register_forward_hook(see, with_kwargs=True))
        for module in () if self._handles[_ACTIVATIONS] else self._functions:
            self._handles[_ACTIVATIONS].append(module.register_forward_hook(Hook(self.fail, self._see_activation)))
        if not self._handles[_MODEL] and not isinstance(self.model, torch.jit.ScriptModule):
            see = Hook(self.fail, self._see_model)
            self._handles[_MODEL].append(self.model.register_forward_hook(see, with_kwargs=True))
        for handle in self._handles.pop(_WEIGHTS, ()):
            handle.remove()
        self._counts_all = self.has_small_batches
        counted: set[str] = set()
        for name, weight in self.weights:
            # A single micro-batch tells nothing of the noise scale; one layer's hook notices when there are several.
            if weight.requires_grad and (self.has_small_batches or not counted):
                see_gradient = partial(self._see_small_batch, name, weight, name not in counted)
                self._handles[_WEIGHTS].append(self._on_gradient(weight, see_gradient))
                counted.add(name)

    def pause(self) -> None:
        """Remove the hooks, except those of compiled layers: removing them would trigger a recompilation."""
        if not self.is_attached:
            return
        kept = {*self.compiled, _ACTIVATIONS, _MODEL} if self.compiled else set()
        for name in self._handles.keys() - kept:
            for handle in self._handles.pop(name):
                handle.remove()
        self.is_attached = False

    def detach(self) -> None:
        """Remove all hooks."""
        for handles in self._handles.values():
            for handle in handles:
                handle.remove()
        self._handles.clear()
        self.is_attached = False

    def fail(self, error: Exception) -> None:
        """Report the error of a hook, and remove all hooks."""
        self.has_failed = True
        self.detach()
        why = f"a hook failed and all are gone ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        self.missing.add("what hooks see", self.modules, why)

    def take(self) -> tuple[dict[Field, Part], dict[Field, dict[str, Tensor]]]:
        """Return scalars, one for each call of a layer, and values by unit, by layer."""
        if self.twice:
            why = "the same output was differentiated more than once in a step, as by two losses on one graph"
            self.missing.add("delta", self.twice, why)
            self.missing.add("gradient noise scale", ["the network"], why)
        parts, by_unit = together(self.passes, self.twice)
        if self.compiled and self._buffer is not None:
            for field, column in ((DELTA, self._buffer[:, 0].sqrt()), (DELTA_COUNT, self._buffer[:, 1].clone())):
                names, values = parts.get(field, Part([], []))
                both = torch.cat([torch.as_tensor(values, dtype=column.dtype, device=column.device), column])
                parts[field] = Part([*names, *self.modules], both)
        return parts, by_unit

    def _see_layer(
        self, name: str, trace: Callable[[], None], module: nn.Module, inputs: Any, keywords: Any, output: Any
    ) -> Any:
        z = first_tensor(output)
        if torch.compiler.is_compiling():
            # torch.compiler.is_exporting() of torch 2.11 is true for every graph that is traced.
            if z is None or not z.requires_grad or torch.compiler._is_exporting_flag:
                return None
            trace()
            return with_first_tensor(output, Tap.apply(z, self._buffer, self._rows[name]))
        if is_transformed():
            self.transformed[name] = None
            return None
        self.seen.setdefault(name)
        self.activations.close(inputs[0] if inputs else None)
        if z is None or not z.requires_grad or z.grad_fn is None:
            if not torch.is_grad_enabled():
                self.sight.pass_blindly(name, first_tensor((inputs, keywords)), z)
            return None
        if why := "nested" if z.is_nested else "a scalar" if z.dim() == 0 else "":
            self.missing.add("delta", [name], f"it returns a tensor that is {why}")
            return None
        if self.passes[-1].has_delta:
            self.passes.append(Passes())
        given = first_tensor((inputs, keywords))
        self.ends.feed(name, given, module)
        self.sight.follow(given)
        base = viewed(module, z)
        below = base.grad_fn._sequence_nr() if base is not z and base.grad_fn else None
        call = Call(name, self.passes[-1], self._step, storage(given), below)
        if torch._C._current_graph_task_id() == -1:  # otherwise it is checkpointing's recomputation
            self._calls.add(z.grad_fn, call)
        # A hook on the tensor, because a module's backward hook forbids an in-place ReLU after it.
        self._on_gradient(base, partial(self._see_delta, call))
        self.activations.expect(call, module, z)
        self._last = z.detach(), z.grad_fn._sequence_nr()  # the number identifies the node without keeping its graph
        if isinstance(module, nn.RNNBase):
            self._see_states(name, module, (*inputs, *(keywords[k] for k in ("input", "hx") if k in keywords)), output)
        return None

    def _see_states(self, name: str, module: nn.RNNBase, inputs: Any, output: Any) -> None:
        is_sharded = any(hasattr(weight, "to_local") for layer, weight in self.weights if layer == name)
        if reason := why_not(module, inputs) or ("its weights are sharded" if is_sharded else None):
            self.missing.add("dL/dh_t", [name], reason)
        else:
            self.passes[-1].recurrent.append((name, RecurrentPass(module, inputs, output, self._on_gradient)))

    def _see_model(self, module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        """Read the graph of the model's output, which stands for the loss until the loss is given."""
        if torch.compiler.is_compiling() or is_transformed():
            return
        self.sight.give((inputs, keywords))
        if tensors := [tensor for tensor in all_tensors(output) if tensor.requires_grad]:
            scalars = [tensor for tensor in tensors if not tensor.dim()]
            if len(scalars) == 1:  # a model that returns its loss
                self.loss = scalars[0].detach()
                self._compare(scalars[0])
            self.look(tensors)
            self.activations.close()
            self._calls.close()

    def look(self, roots: Iterable[Tensor], *, is_loss: bool = False) -> None:
        """Read the graph of what will be differentiated; that of a loss replaces that of the model's output."""
        if is_loss:
            self._forget_sums()
            self.sight.trunks.clear()
            for root in roots:
                self._compare(root)
        found = self._look([tensor.grad_fn for tensor in roots])
        if found is None:
            return
        for name, node in found.sums:
            see = partial(self._see_sum, Call(name, self.passes[-1], self._step, None))
            self.sums.append((name, node.register_prehook(Hook(self.fail, see))))
        self._calls.mark(found.times)

    def _compare(self, loss: Tensor) -> None:
        try:
            self.ends.compare(loss, self._calls.layer_of, self._last)
        except Exception as error:  # any kind: a loss can be anything, and training must go on
            self.missing.add("what the loss compares", ["the network"], f"{type(error).__name__}: {error}")

    def take_ends(self, loss: Tensor | None, *, with_data: bool) -> Ends:
        """Return the network's inputs and what its loss compares, read from its graph even after the backward pass."""
        if loss is not None and not self.ends.has_heads:
            self._compare(loss)
        return self.ends.complete(with_data=with_data)

    def look_back(self) -> None:
        """Read the graph of differentiated layers that no graph contained that was read before the backward pass."""
        taken = {node: call.name for node, call in self._calls.open.items() if call.is_taken}
        if not self.sight.distance.keys() >= {*taken.values()}:
            self.sight.trunks.clear()
            if found := self._look(taken, back=True):
                why = "neither the model itself was called nor before_backward"
                self.missing.add("dL/dh_t", (self._calls.open[node].name for node in found.times), why)
                self.missing.add("residual stream", (name for name, _ in found.sums), why)

    def _look(self, roots: Iterable[graph.Node], *, back: bool = False) -> graph.Look | None:
        found = self._calls.look(roots, back=back)
        if found is None:
            why = f"the graph has more than {graph.LARGEST:,} nodes"
            self.missing.add("order and residual stream", ["the network"], why)
        else:
            self.sight.learn(found, self._calls.open)
            self.repeated = self._calls.repeated(found.times)
            if self._step < _FIRST:
                self.astray = tuple(dict.fromkeys(astray(found.nodes)))
        return found

    def _forget_sums(self) -> None:
        for _, handle in self.sums:
            handle.remove()
        self.sums.clear()

    def _see_sum(self, call: Call, gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[0]
        if gradient is None or not gradient.dim():  # a sum of losses
            return
        if call.is_taken:
            self.twice[call.name] = None
        call.is_taken = True
        self._read(call.passes, call.name, Stream(gradient.detach()))

    def _read(self, passes: Passes, name: str, moment: Delta | Stream) -> None:
        for read, _ in READERS[type(moment)]:
            for field, value in read(moment).items():
                passes.add(field, name, value)

    def _see_activation(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if not (torch.compiler.is_compiling() or is_transformed()):
            self.activations.see(module, output)

    def _see_delta(self, call: Call, delta: Tensor | None) -> None:
        if delta is None or is_transformed():  # None if the loss uses only the state of a fused recurrent layer
            return
        delta = delta.detach()
        if call.step != self._step:  # its forward pass was before the last optimizer step
            call.passes, call.step, call.is_taken = self.passes[-1], self._step, False
        call.passes.has_delta = True
        if call.is_taken:
            self.twice[call.name] = None
            return
        call.is_taken = True
        self._read(call.passes, call.name, Delta(delta))
        if call.time is not None:
            call.passes.sequences[call.name][call.time].append(measure.norm(delta))
        self.activations.take(call)

    def _see_small_batch(self, name: str, weight: Tensor, is_first: bool, gradient: Tensor) -> None:
        """Read the gradient of one micro-batch on one rank, before it is accumulated or averaged."""
        if not is_transformed():
            self.passes = with_small_batch(self.passes, name, weight, gradient.detach(), is_first=is_first)

    def _on_gradient(self, tensor: Tensor, see: Callable[[Tensor], None]) -> RemovableHandle:
        handle: RemovableHandle = tensor.register_hook(Hook(self.fail, see))  # type: ignore[no-untyped-call]
        return handle
