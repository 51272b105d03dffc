"""The hooks of a recorder: what they see in forward and backward passes, until it is taken."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unvanish.gradients import measure
from unvanish.gradients.layers import ACTIVATIONS, activation_path, find_activation, first_tensor, unit_axis
from unvanish.gradients.ranks import Part, on_device
from unvanish.gradients.recurrent import RecurrentPass, why_not

#: Beside the layers' names, those of the hooks on all activations and on all weights.
_ACTIVATIONS, _WEIGHTS = "activations:", "weights:"


class _Tap(torch.autograd.Function):
    """The identity, whose backward pass adds |delta|^2 and the number of its elements to a row of a buffer.

    Inside a compiled graph there is no place for a hook in Python, but for this there is.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, buffer: Tensor, row: int) -> Tensor:
        ctx.buffer, ctx.row = buffer, row
        return z.clone()

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        ctx.buffer[ctx.row, 0] += delta.to(ctx.buffer.dtype).square().sum()
        ctx.buffer[ctx.row, 1] += delta.numel()
        return delta, None, None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _trace(watch: "Watch", name: str) -> None:
    """Note that a layer is compiled: run while its graph is traced, and no part of that graph."""
    watch.compiled[name] = None
    watch.seen.setdefault(name)


@final
class _Call:
    """One call of a layer; what is known of its activation counts once its delta has come.

    So what gradient checkpointing computes a second time does not.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = "identity"
        self.activation: dict[str, Tensor] = {}
        self.size = 0
        self.is_taken = False


@final
class Watch:
    """Hooks on layers, activations and weights; what they see adds up until ``clear``.

    Args:
        modules: The layers by name.
        weights: Their weights, with the layers' names.
        model: What they are part of.
    """

    def __init__(
        self, modules: dict[str, nn.Module], weights: list[tuple[str, nn.Parameter]], model: nn.Module
    ) -> None:
        self.modules = modules
        self.weights = weights
        self.activations = [module for module in model.modules() if type(module) in ACTIVATIONS]
        self.kinds: dict[str, str] = {}
        #: Why something was not measured: the layers by quantity and reason.
        self.reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        #: The layers that are part of a compiled graph.
        self.compiled: dict[str, None] = {}
        #: Whether the last step had several micro-batches on this rank, or the batch is shared with others.
        self.has_small_batches = True
        self._buffer: Tensor | None = None
        self._rows = {name: row for row, name in enumerate(modules)}
        self._handles: dict[str, list[RemovableHandle]] = defaultdict(list)
        self._latest: tuple[_Call, Tensor, Any] | None = None
        self.is_attached = False
        self.clear()

    def clear(self) -> None:
        """Begin a step."""
        self.seen: dict[str, None] = {}
        #: Scalars by quantity, each with its layer's name.
        self.values: dict[str, list[tuple[str, Tensor]]] = defaultdict(list)
        #: How many numbers a quantity was taken over, by layer.
        self.counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        #: How many numbers each mean was taken over.
        self.sizes: list[int] = []
        self.largest: dict[str, Tensor] = {}
        self.passes: list[tuple[str, RecurrentPass]] = []
        self._latest = None
        if self._buffer is not None and self.compiled:
            self._buffer.zero_()

    def attach(self) -> None:
        """Put the hooks in place, where they are not."""
        if self.is_attached:
            return
        self.is_attached = True
        device = self.weights[0][1].device
        if self._buffer is None or self._buffer.device != device:
            # Allocated here because a compiled graph cannot: one row a layer.
            self._buffer = torch.zeros(len(self.modules), 2, dtype=measure.accumulator(device), device=device)
        for name, module in self.modules.items():
            if not self._handles[name]:
                self._handles[name].append(
                    module.register_forward_hook(partial(self._see_layer, name), with_kwargs=True)
                )
        for module in () if self._handles[_ACTIVATIONS] else self.activations:
            self._handles[_ACTIVATIONS].append(module.register_forward_hook(self._see_activation))
        counted: set[str] = set()
        for name, weight in self.weights:
            # Of a step with a single small batch there is nothing to learn; one layer tells when there are more again.
            if weight.requires_grad and (self.has_small_batches or not counted):
                see = partial(self._see_small_batch, name, name not in counted)
                self._handles[_WEIGHTS].append(_on_gradient(weight, see))
                counted.add(name)

    def pause(self) -> None:
        """Take the hooks away; but in a compiled graph leave those that it was made with, or it is made anew."""
        kept = {*self.compiled, _ACTIVATIONS} if self.compiled else set()
        for name in self._handles.keys() - kept:
            for handle in self._handles.pop(name):
                handle.remove()
        self.is_attached = False

    def notes(self) -> list[str]:
        """What the hooks could not measure, and why."""
        owners = {name for name, _ in self.weights}
        recurrent = [name for name in self.compiled if isinstance(self.modules[name], nn.RNNBase)]
        shared = [name for name in self.modules if name not in owners]
        return [
            *(note for (what, why), names in self.reasons.items() for note in notes(what, names, why)),
            *notes("activation", self.compiled, "a compiled graph does not show it"),
            *notes("dL/dh_t", recurrent, "a compiled graph does not show it"),
            *notes("dL/dW", shared, "its weight is another layer's as well, and shown there"),
        ]

    def detach(self) -> None:
        """Take all hooks away."""
        for handles in self._handles.values():
            for handle in handles:
                handle.remove()
        self._handles.clear()
        self.is_attached = False

    def take(self) -> dict[str, Part]:
        """What was seen, by quantity; the norms and sums of a layer that ran several times still side by side."""
        device = self.weights[0][1].device
        parts = {
            quantity: Part([name for name, _ in found], torch.stack([value for _, value in found]))
            for quantity, found in self.values.items()
            if found
        }
        if "mean" in parts:
            # As sums, these add up over calls and ranks.
            sizes = on_device(self.sizes, device, measure.accumulator(device))
            (names, mean), (_, spread) = parts.pop("mean"), parts.pop("spread")
            parts["activation"] = Part(names, mean * sizes)
            parts["squares"] = Part(names, spread.square() + mean.square() * sizes)
        for quantity, counts in self.counts.items():
            if counts:
                numbers = on_device(list(counts.values()), device, measure.accumulator(device))
                parts[quantity] = Part(list(counts), numbers)
        if self.compiled and self._buffer is not None:
            for quantity, column in (
                ("delta", self._buffer[:, 0].sqrt()),
                ("delta_count", self._buffer[:, 1].clone()),
            ):
                names, values = parts.get(quantity, Part([], column.new_zeros(0)))
                parts[quantity] = Part([*names, *self.modules], torch.cat([values, column]))
        return parts

    def _see_layer(self, name: str, module: nn.Module, inputs: Any, keywords: Any, output: Any) -> Any:
        z = first_tensor(output)
        if torch.compiler.is_compiling():
            if z is None or not z.requires_grad:
                return None
            _trace(self, name)
            return _with_first_tensor(output, _Tap.apply(z, self._buffer, self._rows[name]))
        self.seen.setdefault(name)
        self.close_layer(inputs[0] if inputs else None)
        if z is None or not z.requires_grad:
            return None
        call = _Call(name)
        # Unlike a backward hook on the module, a hook on the tensor allows an in-place ReLU behind it.
        _on_gradient(z, partial(self._see_delta, call))
        self._latest = call, z, z.grad_fn
        if isinstance(module, nn.RNNBase):
            self._see_states(name, module, (*inputs, *(keywords[k] for k in ("input", "hx") if k in keywords)), output)
        return None

    def _see_states(self, name: str, module: nn.RNNBase, inputs: Any, output: Any) -> None:
        is_sharded = any(hasattr(weight, "to_local") for layer, weight in self.weights if layer == name)
        if reason := why_not(module, inputs) or ("its weights are sharded" if is_sharded else None):
            self.reasons["dL/dh_t", reason][name] = None
        else:
            self.passes.append((name, RecurrentPass(module, inputs, output)))

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
    def _measure_activation(self, call: _Call, kind: str, activation: Tensor | None) -> None:
        call.kind = kind
        if activation is None:
            self.reasons["activation", "the next layer shows only what was made of it"][call.name] = None
        elif activation.is_floating_point() and activation.numel():
            activation = activation.detach()
            mean, spread = measure.moments(activation)
            call.size = activation.numel()
            call.activation = {"mean": mean, "spread": spread}
            if kind in ("tanh", "sigmoid"):
                call.activation["saturated"] = measure.saturated(activation, kind).to(mean.dtype)
            if kind == "relu":
                units = measure.largest_by_unit(activation, unit_axis(self.modules[call.name]))
                call.activation["largest"] = units
        if call.is_taken:
            self._take_activation(call)

    def _take_activation(self, call: _Call) -> None:
        name = call.name
        self.kinds[name] = call.kind
        largest = call.activation.pop("largest", None)
        for quantity, value in call.activation.items():
            self.values[quantity].append((name, value))
        if "mean" in call.activation:
            self.sizes.append(call.size)
            self.counts["activation_count"][name] += call.size
        if "saturated" in call.activation:
            self.counts["saturated_count"][name] += call.size
        call.activation.clear()
        if largest is not None:
            known = self.largest.get(name, largest)
            self.largest[name] = torch.maximum(known, largest) if known.shape == largest.shape else largest

    def _see_delta(self, call: _Call, delta: Tensor | None) -> None:
        if delta is None:  # of a fused recurrent layer, where the loss uses its state alone
            return
        self.values["delta"].append((call.name, measure.norm(delta.detach())))
        self.counts["delta_count"][call.name] += delta.numel()
        if not call.is_taken:
            call.is_taken = True
            self._take_activation(call)

    def _see_small_batch(self, name: str, is_first: bool, gradient: Tensor) -> None:
        """A weight's own hook sees the gradient of one micro-batch on one rank, before it is added to any other."""
        self.values["small_batch"].append((name, measure.norm(gradient.detach())))
        self.counts["small_batch_count"][name] += is_first  # once a layer, however many weights it has


def notes(what: str, layers: Iterable[str], why: str) -> list[str]:
    """One sentence for a user, or none where no layer is concerned."""
    names = list(layers)
    more = f" and {len(names) - 3} more layers" if len(names) > 4 else ""
    return [f"{what} of {', '.join(names[:3] if more else names)}{more} was not measured: {why}"] if names else []


def _on_gradient(tensor: Tensor, see: Callable[[Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = tensor.register_hook(see)  # type: ignore[no-untyped-call]
    return handle


def _with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """``output`` with the tensor that ``first_tensor`` finds replaced."""
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, dict):
        key = next(key for key, part in output.items() if first_tensor(part) is not None)
        return output | {key: _with_first_tensor(output[key], tensor)}
    index = next(index for index, part in enumerate(output) if first_tensor(part) is not None)
    parts = [*output[:index], _with_first_tensor(output[index], tensor), *output[index + 1 :]]
    return type(output)(parts) if type(output) in (list, tuple) else type(output)(*parts)
