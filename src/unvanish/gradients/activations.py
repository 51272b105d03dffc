"""Measures the activation after each layer, which is a module or a function found in autograd's graph."""

from typing import Any, final

from torch import Tensor, nn

from unvanish.gradients.graph import Node
from unvanish.gradients.layers import ACTIVATIONS, activation_path, find_activation
from unvanish.gradients.missing import Missing
from unvanish.gradients.passes import Call
from unvanish.gradients.quantities import READERS, Output


@final
class Activations:
    """Measures the activation after a layer when the next module runs. It counts once the layer's delta was seen.

    Args:
        missing: Collects what cannot be measured.
    """

    def __init__(self, missing: Missing) -> None:
        self._missing = missing
        self._latest: tuple[Call, nn.Module, Tensor, Node] | None = None
        #: The kind of activation after each layer.
        self.kinds: dict[str, str] = {}

    def expect(self, call: Call, module: nn.Module, z: Tensor) -> None:
        """Note that a layer has run."""
        self._latest = call, module, z, z.grad_fn

    def forget(self) -> None:
        """Forget the latest layer."""
        self._latest = None

    def see(self, module: nn.Module, output: Tensor) -> None:
        """Measure the output of an activation module, if it was applied to that of the latest layer."""
        if self._latest is None or not output.requires_grad:
            return
        call, layer, _, origin = self._latest
        if activation_path(output, origin) is not None:
            self._latest = None
            self._measure(call, layer, ACTIVATIONS[type(module)], output)

    def close(self, next_input: Any = None) -> None:
        """Measure the activation of the latest layer, if no module did."""
        if self._latest is not None:
            call, layer, z, origin = self._latest
            self._latest = None
            self._measure(call, layer, *find_activation(z, origin, next_input))

    def _measure(self, call: Call, layer: nn.Module, kind: str, activation: Tensor | None) -> None:
        call.kind = kind
        if activation is None:
            self._missing.add("activation", [call.name], "it was changed before the next layer received it")
        elif activation.is_floating_point() and activation.numel():
            output = Output(layer, kind, activation.detach())
            for read, _ in READERS[Output]:
                call.activation |= read(output)
        if call.is_taken:
            self.take(call)

    def take(self, call: Call) -> None:
        """Add the activation of a call whose delta has been seen."""
        self.kinds[call.name] = call.kind
        for field, value in call.activation.items():
            call.passes.add(field, call.name, value)
        call.activation.clear()
