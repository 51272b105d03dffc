"""Recurrent networks, for series and for texts.

Shapes: B samples, T steps, F features of a step, H units of a direction, O = H units of a layer (2 H of a bidirectional
one), V tokens in the vocabulary, C outputs.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast, final

import torch
from torch import Tensor, nn

from unvanish.bounds import PositiveInt
from unvanish.names import lookup
from unvanish.networks.initialization import find_scheme, initialize
from unvanish.networks.normalization import NormalizationName, build_normalization
from unvanish.networks.sizes import check_sequence
from unvanish.training import ReferenceModule, Training

log = logging.getLogger(__name__)

_State = Tensor | tuple[Tensor, Tensor]
_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_ACTIVATIONS = {"tanh": "tanh", "relu": "relu"}


@final
class RecurrentLayer(nn.Module):
    """a = dropout(normalization(h)), plus x itself where ``residual``; h are the states of the layer at every step.

    A second direction is a module of its own that runs over each sequence from its end to its begin.

    Args:
        build: Makes the module of one direction from the numbers of inputs and units.
        inputs: Features of a step.
        units: H.
        bidirectional: Whether there is a second direction, whose states stand behind those of the first.
        normalization: none or layer; over all O units of a step, both directions together.
        dropout: Probability that a unit is zeroed in training.
        residual: Whether x is added.
    """

    def __init__(
        self,
        build: Callable[[int, int], nn.RNNBase],
        inputs: int,
        units: int,
        bidirectional: bool,
        normalization: str,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.recurrence = build(inputs, units)
        self.reverse = build(inputs, units) if bidirectional else None
        self.normalization = build_normalization(normalization, units * (1 + bidirectional), "sequences")
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, state: _State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, _State]:
        """(B, T, inputs), the state to begin with and the sequences' lengths (B,) -> (B, T, O) and the last state."""
        h, state = self.recurrence(x, state)
        if self.reverse is not None:
            h = torch.cat([h, _turn(self.reverse(_turn(x, lengths))[0], lengths)], dim=-1)
        a: Tensor = self.dropout(self.normalization(h))
        return (x + a if self.residual else a), cast("_State", state)


@final
class Recurrent(ReferenceModule):
    """Recurrent layers, one on the other, and a linear output.

    The cells are torch's fused ones: Elman's (1990) h_t = activation(W x_t + U h_{t-1} + b), the LSTM with forget gates
    (Hochreiter and Schmidhuber 1997, Gers et al. 2000) and the GRU (Cho et al. 2014) whose reset gate acts on
    U h_{t-1} + b. Each layer is a module of its own, so that normalization, residual connections and dropout stand
    between two layers, never within the recurrence, and dL/dh_t of each can be measured.

    The output of a next_token task reads the last layer at every step, that of the others at the last step: of a text
    the last token that is not padding; of a second direction, which ends there, the first.

    Args:
        input_shape: (T, F) for series of numbers, or (T,) for tokens. Other lengths T can be read as well.
        output_size: Number of outputs: classes, regression targets, tokens, or 1 for a binary task.
        hidden_size: Units of each layer, in each direction.
        num_layers: Recurrent layers.
        cell: rnn, lstm or gru.
        bidirectional: Read each sequence from its end as well (Schuster and Paliwal 1997); never for next_token, whose
            answers lie ahead.
        embedding_dim: Features of a token; hidden_size, if None. Their embedding is drawn from N(0, 1).
        vocabulary_size: V, where the input is tokens.
        padding_index: The token that pads a text at its end; an empty text is read as one such token.
        activation: tanh or relu for rnn; gru and lstm have tanh alone.
        initialization: auto, default (torch's own draw, untouched), xavier_uniform, xavier_normal, he_uniform,
            he_normal, lecun_normal, orthogonal, normal(std) or mean_field(sigma_w2, 0): see ``initialize``; for the two
            matrices of each gate by themselves, and for the output. auto is xavier_normal, but orthogonal for the
            recurrent matrices, which then keep the norm of what passes them (Saxe et al. 2014). All but default set the
            biases to zero, except for forget_bias.
        normalization: none or layer (Ba et al. 2016); of each layer's states, before they leave it.
        residual: Add its input to the output of each layer where both have one size (Wu et al. 2016).
        forget_bias: b of an LSTM's forget gates, which keep sigmoid(b) of a cell at first. If None it is 1 (Jozefowicz
            et al. 2015), but with initialization default what torch has drawn.
        training: The shared training configuration. Dropout acts on each layer's output (Zaremba et al. 2014).

    Raises:
        ValueError: a name, a size or a combination is wrong.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        hidden_size: PositiveInt = 128,
        num_layers: PositiveInt = 1,
        cell: Literal["rnn", "lstm", "gru"] = "lstm",
        bidirectional: bool = False,
        embedding_dim: PositiveInt | None = None,
        vocabulary_size: PositiveInt | None = None,
        padding_index: int | None = None,
        activation: Literal["tanh", "relu"] = "tanh",
        initialization: str = "auto",
        normalization: NormalizationName = "none",
        residual: bool = False,
        forget_bias: float | None = None,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        check_sequence(tuple(input_shape), vocabulary_size, padding_index)
        if vocabulary_size is None and embedding_dim is not None:
            raise ValueError("embedding_dim is for tokens, and goes with vocabulary_size")
        if vocabulary_size is None and len(input_shape) != 2:
            raise ValueError(
                f"input_shape is {tuple(input_shape)}; a recurrent network reads series (T, F), or tokens (T,) with "
                "vocabulary_size"
            )
        if training.task == "next_token":
            _check_next_token(bidirectional, output_size, vocabulary_size)
        self.padding_index = padding_index
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.embedding: nn.Module = nn.Identity()
        if vocabulary_size is not None:
            self.embedding = nn.Embedding(vocabulary_size, embedding_dim or hidden_size, padding_idx=padding_index)
        features = input_shape[-1] if vocabulary_size is None else embedding_dim or hidden_size
        outputs = hidden_size * (1 + bidirectional)
        inputs = [features] + [outputs] * (num_layers - 1)
        if residual and outputs not in inputs:
            raise ValueError(
                f"residual adds a layer's input to its output: both must have one size, and the only layer reads "
                f"{features} features and returns {outputs}"
            )
        if forget_bias is not None:
            _check_forget_bias(cell, forget_bias)
        build = _builder(cell, activation)
        self.layers = nn.ModuleList(
            RecurrentLayer(
                build,
                size,
                hidden_size,
                bidirectional,
                normalization,
                training.regularization.dropout,
                residual=residual and size == outputs,
            )
            for size in inputs
        )
        self.output = nn.Linear(outputs, output_size)
        self._initialize(initialization, forget_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) or tokens (B, T) -> logits (B, C), (B,) for a binary task, (B, T, V) for next_token."""
        if self.settings.task == "next_token":
            return self.extend(x)[0]
        lengths = self._lengths(x)
        h = self._last(self._run(x, None, lengths)[0], lengths)
        return self.logits_of(self.output(h))

    def extend(self, x: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, T, V) of tokens (B, T) that follow those in ``cache``, and the cache that includes them.

        Args:
            x: The tokens.
            cache: The result of the previous call: the state of each layer; None at the beginning of a text.

        Raises:
            ValueError: the task is not next_token.
        """
        if self.settings.task != "next_token":
            raise ValueError(f"extend is for task next_token; this network's is {self.settings.task}")
        h, states = self._run(x, cache)
        return self.output(h), states

    def _run(
        self, x: Tensor, states: list[_State] | None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[_State]]:
        """The last layer's output (B, T, O), and the state of each layer after the last step."""
        h, after = self.embedding(x), []
        for index, layer in enumerate(self.layers):
            h, state = layer(h, states[index] if states else None, lengths)
            after.append(state)
        return h, after

    def _lengths(self, x: Tensor) -> Tensor | None:
        """The length of each text without padding, (B,), at least 1; None if nothing is padded."""
        if self.padding_index is None:
            return None
        steps = torch.arange(1, x.shape[1] + 1, device=x.device)
        return torch.where(x == self.padding_index, 1, steps).amax(dim=1)

    def _last(self, h: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, O) -> (B, O), where each direction has read the whole sequence."""
        last = h[:, -1] if lengths is None else h.take_along_dim(lengths.view(-1, 1, 1) - 1, dim=1).squeeze(1)
        return torch.cat([last[:, : self.hidden_size], h[:, 0, self.hidden_size :]], -1) if self.bidirectional else last

    def _initialize(self, name: str, forget_bias: float | None) -> None:
        if forget_bias is None and name != "default":
            forget_bias = 1.0
        names = (name, name)
        if name == "auto":
            names = ("xavier_normal", "orthogonal")
            log.info("initialization auto: xavier_normal for input weights, orthogonal for recurrent ones")
        initialize(self.output, names[0], "tanh")
        of_inputs, of_states = (find_scheme(scheme, "tanh") for scheme in names)
        for module in self.modules():
            if isinstance(module, nn.RNNBase):
                if of_inputs and of_states:
                    _set_gates(module, of_inputs, of_states)
                if isinstance(module, nn.LSTM) and forget_bias is not None:
                    _set_forget_bias(module, forget_bias)


def _set_gates(
    module: nn.RNNBase, of_inputs: Callable[[Tensor], Tensor], of_states: Callable[[Tensor], Tensor]
) -> None:
    """Draw the two matrices of each gate, which lie one below the other in a tensor, and set the biases to zero."""
    for name, parameter in module.named_parameters():
        for gate in parameter.detach().chunk(len(parameter) // module.hidden_size):
            if name.startswith("bias"):
                gate.zero_()
            else:
                (of_inputs if name.startswith("weight_ih") else of_states)(gate)


def _set_forget_bias(module: nn.LSTM, value: float) -> None:
    """Give ``value`` to the second gate; a gate of torch's LSTM has two biases, which add up."""
    for name, part in (("bias_ih_l0", value), ("bias_hh_l0", 0.0)):
        module.get_parameter(name).detach().chunk(4)[1].fill_(part)


def _turn(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence of (B, T, features) reversed; its padding stays at the end."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    turned = lengths.unsqueeze(1) - 1 - steps
    return x.take_along_dim(torch.where(turned < 0, steps, turned).unsqueeze(-1), dim=1)


def _builder(cell: str, activation: str) -> Callable[[int, int], nn.RNNBase]:
    """The class that builds one direction of one layer."""
    kind = lookup("cell", cell, _CELLS)
    nonlinearity = lookup("activation", activation, _ACTIVATIONS)
    if cell == "rnn":
        return partial(kind, nonlinearity=nonlinearity, batch_first=True)
    if activation != "tanh":
        raise ValueError(f"activation {activation!r} is for cell rnn: the gates of {cell} suppose tanh")
    return partial(kind, batch_first=True)


def _check_next_token(bidirectional: bool, output_size: int, vocabulary_size: int | None) -> None:
    """Refuse settings that cannot predict the next token, or would see it."""
    if bidirectional:
        raise ValueError("bidirectional is not for task next_token: read from its end, a text shows the answer")
    if vocabulary_size is None:
        raise ValueError("task next_token needs tokens, and so vocabulary_size")
    if output_size != vocabulary_size:
        raise ValueError(
            f"task next_token has one output a token: output_size is {output_size}, vocabulary_size {vocabulary_size}"
        )


def _check_forget_bias(cell: str, forget_bias: float) -> None:
    """Refuse a forget bias for a cell without a forget gate."""
    if lookup("cell", cell, _CELLS) is not nn.LSTM:
        raise ValueError(f"forget_bias is for cell lstm: {cell} has no forget gate")
    if not math.isfinite(forget_bias):
        raise ValueError(f"forget_bias is {forget_bias}; it must be finite")
