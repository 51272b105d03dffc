"""The activation that follows each layer: a module shows it, or autograd's graph does."""

from typing import Any, final

from torch import Tensor, nn

from unvanish.gradients.graph import Node
from unvanish.gradients.layers import ACTIVATIONS, activation_path, find_activation
from unvanish.gradients.missing import Missing
from unvanish.gradients.passes import Call
from unvanish.gradients.quantities import READERS, Output


@final
class Activations:
    """Measures what follows a layer when the next thing runs; it counts once the layer's delta has come.

    Args:
        missing: What could not be measured.
    """

    def __init__(self, missing: Missing) -> None:
        self._missing = missing
        self._latest: tuple[Call, nn.Module, Tensor, Node] | None = None
        #: The kind of activation after each layer.
        self.kinds: dict[str, str] = {}

    def expect(self, call: Call, module: nn.Module, z: Tensor) -> None:
        """A layer has run."""
        self._latest = call, module, z, z.grad_fn

    def forget(self) -> None:
        """Whatever has run last."""
        self._latest = None

    def see(self, module: nn.Module, output: Tensor) -> None:
        """An activation module has run, perhaps on what the latest layer has returned."""
        if self._latest is None or not output.requires_grad:
            return
        call, layer, _, origin = self._latest
        if activation_path(output, origin) is not None:
            self._latest = None
            self._measure(call, layer, ACTIVATIONS[type(module)], output)

    def close(self, next_input: Any = None) -> None:
        """Measure the activation of the latest layer, where no module has shown it."""
        if self._latest is not None:
            call, layer, z, origin = self._latest
            self._latest = None
            self._measure(call, layer, *find_activation(z, origin, next_input))

    def _measure(self, call: Call, layer: nn.Module, kind: str, activation: Tensor | None) -> None:
        call.kind = kind
        if activation is None:
            self._missing.add("activation", [call.name], "the next layer shows only what was made of it")
        elif activation.is_floating_point() and activation.numel():
            output = Output(layer, kind, activation.detach())
            for read, _ in READERS[Output]:
                call.activation |= read(output)
        if call.is_taken:
            self.take(call)

    def take(self, call: Call) -> None:
        """The delta of a call has come."""
        self.kinds[call.name] = call.kind
        for field, value in call.activation.items():
            call.passes.add(field, call.name, value)
        call.activation.clear()
