"""dL/dh_t of torch's fused recurrent layers, at a few times."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unvanish.gradients import measure
from unvanish.gradients.quantities.time import TIMES


def chosen_times(length: int) -> list[int]:
    """The times t in [1, length] at which dL/dh_t is read, including the first and the last."""
    return sorted({round(1 + (length - 1) * k / (TIMES - 1)) for k in range(TIMES)})


def why_not(module: nn.RNNBase, inputs: Any) -> str | None:
    """Why dL/dh_t of a layer cannot be read; None if it can."""
    if isinstance(inputs[0], PackedSequence):
        return "its sequences are packed"
    if module.bidirectional:
        return "it is bidirectional"
    if module.num_layers > 1 and module.dropout and module.training:
        return "dropout between its layers draws anew at every pass"
    return None


@final
class RecurrentPass:
    """One forward pass of a recurrent layer, kept until its backward pass has run.

    Weight gradients hide vanishing through time, and a fused kernel hides the states. So the inputs and the gradients
    of the outputs are kept, and the pass is repeated from them in pieces; the gradient of the state between two pieces
    is dL/dh_t. The pass of the training itself is not changed. The state of an LSTM is h_t together with c_t, because
    a gradient that the cell carries has not vanished.

    Args:
        module: The layer, a unidirectional ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``.
        inputs: Its inputs: x, and optionally the first state.
        output: Its output, (y, state).
        on_gradient: Registers a hook on a tensor.
    """

    def __init__(
        self,
        module: nn.RNNBase,
        inputs: Any,
        output: Any,
        on_gradient: Callable[[Tensor, Callable[[Tensor], None]], Any],
    ) -> None:
        self.module = module
        self.x = inputs[0].detach()
        self.state = _detached(inputs[1]) if len(inputs) > 1 else None
        self.outputs = [output[0], *(output[1] if isinstance(output[1], tuple) else [output[1]])]
        self.gradients: list[Tensor | None] = [None] * len(self.outputs)
        device = self.x.device.type
        self.autocast: AbstractContextManager[Any] = nullcontext()
        if torch.amp.is_autocast_available(device):
            dtype = torch.get_autocast_dtype(device)
            self.autocast = torch.autocast(device, dtype, enabled=torch.is_autocast_enabled(device))
        for index, tensor in enumerate(self.outputs):
            if tensor.requires_grad:
                on_gradient(tensor, partial(self._keep, index))
        self.shapes = [(tensor.shape, tensor.dtype) for tensor in self.outputs]
        self.outputs.clear()

    def _keep(self, index: int, gradient: Tensor | None) -> None:
        self.gradients[index] = None if gradient is None else gradient.detach()

    @property
    def has_gradient(self) -> bool:
        """Whether the backward pass has run; it never does for checkpointing's recomputation."""
        return any(gradient is not None for gradient in self.gradients)

    @property
    def times(self) -> list[int]:
        """The times t in [1, T] at which dL/dh_t is read, including the first and the last."""
        return chosen_times(self.x.shape[self._time_axis])

    @property
    def _time_axis(self) -> int:
        return 1 if self.module.batch_first and self.x.dim() == 3 else 0

    def state_gradients(self) -> Tensor:
        """|dL/dh_t| of the last stacked layer at each of ``times``, (len(times),); of an LSTM |dL/d(h_t, c_t)|.

        h_t reaches the loss through y_t and through h_{t+1}; the gradients of both add up. In a padded batch short
        sequences have no gradient at late times, so the norm at t is scaled up from those that have one at t or later.
        """
        zeros = (
            torch.zeros(shape, dtype=dtype, device=self.x.device) if gradient is None else gradient
            for gradient, (shape, dtype) in zip(self.gradients, self.shapes, strict=True)
        )
        y_gradient, *state_gradients = zeros
        axis, state, pieces = self._time_axis, self.state, []
        states: list[tuple[Tensor, ...]] = []
        with torch.enable_grad(), self.autocast:
            x = self.x.requires_grad_()
            for start, end in pairwise([0, *self.times]):
                y, state = self.module.forward(x.narrow(axis, start, end - start), state)
                pieces.append(y)
                states.append(state if isinstance(state, tuple) else (state,))
        along_time = torch.split(y_gradient, [piece.shape[axis] for piece in pieces], axis)
        through_time = torch.autograd.grad(
            [*pieces, *states[-1]],
            [part for parts in states for part in parts],
            [*along_time, *state_gradients],
            materialize_grads=True,
        )
        samples = 1 if x.dim() == 2 else x.shape[1 - axis]
        by_sample = []
        for index, direct in enumerate(along_time):
            h, *cell = (gradient[-1] for gradient in through_time[index * len(states[0]) :][: len(states[0])])
            parts = [h + direct.select(axis, -1), *cell]  # of different sizes if an LSTM projects h
            by_sample.append(torch.cat([part.reshape(samples, -1) for part in parts], 1))
        norms = torch.as_tensor(measure.norms(by_sample), dtype=measure.accumulator(x.device), device=x.device)
        alive = torch.stack([gradients.ne(0).any(1) for gradients in by_sample]).flip(0).cummax(0).values.flip(0)
        return norms * (samples / alive.sum(1).clamp(min=1).to(norms.dtype)).sqrt()


def _detached(state: Any) -> Any:
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return None if state is None else state.detach()
