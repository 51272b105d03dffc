"""The recorder checks itself: it occasionally measures a layer again with plain torch."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unvanish.gradients import measure
from unvanish.gradients.hook import Hook, is_transformed
from unvanish.gradients.hooks import Watch
from unvanish.gradients.layers import first_tensor
from unvanish.gradients.quantities import Part, Quantity
from unvanish.gradients.quantities.delta import DELTA_COUNT, DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.record import Record, Step

#: Steps between two checks.
EVERY = 1000
_RELATIVE = 1e-4
#: Elements that are converted to float64 at once.
_PIECE = 1 << 20


class _Found(NamedTuple):
    """The second measurement at a step, still on the device.

    Args:
        recorded: The recorder's step.
        layer: The layer.
        quantity: What was measured again.
        norms: Norms whose squares add up to the layer's.
        size: Number of elements of the deltas seen here.
        counts: Number of elements of the deltas that the recorder has seen.
        kept: Whether the gradient of each earlier backward pass was still there at the next.
        is_scaled: Whether a gradient scaler is used, which skips steps that are not finite.
    """

    recorded: Step
    layer: str
    quantity: Quantity
    norms: Part
    size: int
    counts: Part
    kept: Part
    is_scaled: bool

    def difference(self, record: Record, brought: Iterator[float]) -> str | None:
        """A sentence on the difference from the record; None if there is none."""
        norms, counts, kept = (part.read(brought) for part in (self.norms, self.counts, self.kept))
        theirs = record.of(self.quantity).get(self.layer)
        if theirs is None or sum(counts) > self.size or not all(kept) or (self.is_scaled and not record.is_finite):
            return None
        ours = math.hypot(*norms)
        if math.isclose(ours, theirs, rel_tol=_RELATIVE) or (math.isnan(ours) and math.isnan(theirs)):
            return None
        if len(norms) > 1 and not math.isfinite(ours) and not math.isfinite(theirs):
            return None  # infinities and NaN may add up to either
        what = f"{self.quantity.name} of {self.layer} at step {record.step}"
        return f"{what} was recorded as {theirs:.6g}, but is {ours:.6g} by plain torch: no number here can be trusted"


_NONE = Part([], [])


@final
class SelfCheck:
    """Measures |dL/dW| and |delta| of one layer again, once in 1,000 steps, each time of the next layer.

    The norm of ``p.grad`` is summed in float64; delta is read by a separate hook. The values stay on the device until
    the recorder's flush. Nothing is compared if that hook cannot see all passes that count: if gradients are set to
    zero within a step, or a forward pass ran before the step began. The first difference is reported and ends the
    checks.
    """

    def __init__(self) -> None:
        #: A sentence on a difference or a failed check, if there was one.
        self.notes: list[str] = []
        self._steps, self._next, self._turn = 0, 0, 0
        self._layer: str | None = None
        self._handle: RemovableHandle | None = None
        self._found: list[_Found] = []
        self.forget()

    def forget(self) -> None:
        """Discard what was measured in this step."""
        self._deltas: list[measure.Number] = []
        self._kept: list[measure.Number] = []
        self._count = 0
        #: The latest backward pass through the layer.
        self._task: int | None = None

    def arm(self, names: Sequence[str], watch: Watch, *, is_compiled: bool) -> None:
        """If a check is due, watch the output of the next layer until the next step.

        Args:
            names: The layers of the parameters that had a gradient at the last step; empty for biases and gains.
            watch: The recorder's hooks, which know the layers' modules.
            is_compiled: Whether the network is compiled. Then only dL/dW is checked, as a hook could trigger a
                recompilation.
        """
        if self.notes or self._steps < self._next or not any(names):
            return
        layers = [*dict.fromkeys(filter(None, names))]
        self._layer = layers[self._turn % len(layers)]
        self._turn += 1
        self.forget()
        if self._layer in watch.modules and not is_compiled and not watch.compiled:
            self._handle = watch.modules[self._layer].register_forward_hook(Hook(self._fail, self._see))

    def disarm(self) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()
        self._layer = self._handle = None

    def _fail(self, error: Exception) -> None:
        self.disarm()
        self.notes = [f"the monitor does not check itself: {type(error).__name__}: {str(error).partition(chr(10))[0]}"]

    def _see(self, module: nn.Module, _: Any, output: Any) -> None:
        z = first_tensor(output)
        if torch.compiler.is_compiling() or is_transformed() or z is None or z.grad_fn is None:
            return
        weight = next((p for p in module.parameters() if p.dim() > 1 and p.requires_grad), None)
        z.register_hook(Hook(self._fail, partial(self._see_delta, weight)))  # type: ignore[no-untyped-call]

    def _see_delta(self, weight: Tensor | None, delta: Tensor | None) -> None:
        if delta is None or self._layer is None or is_transformed():
            return
        task = torch._C._current_graph_task_id()
        if self._task is not None and task != self._task:
            # Gradients of two backward passes add up unless they were reset in between.
            has_gradient = weight is not None and weight.grad is not None
            self._kept.append(measure.number(weight.grad.any()) if has_gradient else 0.0)  # type: ignore[union-attr]
        self._task = task
        self._deltas.append(_norm(delta.detach()))
        self._count += delta.numel()

    def take(
        self,
        recorded: Step,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        *,
        loss_scale: Tensor | float,
        scale: Tensor | float,
    ) -> None:
        """If a check is due, measure the layer again.

        Args:
            recorded: The recorder's step.
            names: The layers of the parameters.
            parameters: The parameters that have a gradient.
            loss_scale: Factor by which a gradient scaler has multiplied the loss.
            scale: The part of this factor that is still in ``p.grad``.
        """
        self._steps += 1
        layer, deltas = self._layer, self._deltas
        if layer is None:
            return
        self.disarm()
        try:
            gradients = [p.grad for n, p in zip(names, parameters, strict=True) if n == layer and p.grad is not None]
            is_sharded = any(hasattr(gradient, "to_local") for gradient in gradients)
            if recorded.is_full and gradients and not is_sharded:
                is_scaled = isinstance(loss_scale, Tensor) or loss_scale != 1
                norms = _part([_norm(gradient) for gradient in gradients]).divided(scale)
                self._found.append(_Found(recorded, layer, GRADIENT_NORM, norms, 0, _NONE, _NONE, is_scaled))
                self._next = self._steps + EVERY - 1
                if deltas and recorded.batch.ranks == 1:
                    norms, kept = _part(deltas).divided(loss_scale), _part(self._kept)
                    counts = _of_layer(layer, recorded.parts.get(DELTA_COUNT, _NONE))
                    self._found.append(_Found(recorded, layer, DELTA_NORM, norms, self._count, counts, kept, is_scaled))
        except Exception as error:  # any kind: the records do not depend on the check
            self._fail(error)
        self.forget()

    @property
    def parts(self) -> list[Part]:
        """The values on the device, in the order in which ``compare`` expects them."""
        return [*chain.from_iterable((one.norms, one.counts, one.kept) for one in self._found)]

    def compare(self, steps: Sequence[Step], records: Sequence[Record], brought: Iterator[float]) -> None:
        """Compare the records with the second measurements."""
        of = {id(step): record for step, record in zip(steps, records, strict=True)}
        differences = [one.difference(of[id(one.recorded)], brought) for one in self._found]
        self._found.clear()
        self.notes = self.notes or [found for found in differences if found][:1]


def _norm(tensor: Tensor) -> measure.Number:
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    wide = measure.accumulator(tensor.device)
    norms = [torch.linalg.vector_norm(piece, dtype=wide) for piece in torch.split(tensor.reshape(-1), _PIECE)]
    return measure.number(torch.linalg.vector_norm(torch.stack(norms)))


def _part(numbers: Sequence[measure.Number]) -> Part:
    return Part([], measure.gathered(numbers)) if numbers else _NONE


def _of_layer(layer: str, part: Part) -> Part:
    rows = [row for row, name in enumerate(part.names) if name == layer]
    return Part([], part.values[rows] if isinstance(part.values, Tensor) else [part.values[row] for row in rows])
