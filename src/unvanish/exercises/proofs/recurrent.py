"""Recurrent cells and their gradients, beside torch.nn with the same weights."""

from typing import Any

import torch
from hypothesis import given
from torch import Tensor, nn

from unvanish.exercises.proofs.compare import Function, drawn, few, same, seeds, sizes

_cases: Any = given(B=sizes, m=sizes, n=sizes, T=sizes, seed=seeds)


def _with_weights(module: nn.Module, seed: int) -> tuple[Any, list[Tensor]]:
    """W, U, b_ih, b_hh, drawn anew: torch's own draw is small, and its cells nearly linear."""
    module = module.double()
    for parameter, value in zip(module.parameters(), drawn(seed, *(p.shape for p in module.parameters())), strict=True):
        parameter.data = value
    return module, [parameter.detach() for parameter in module.parameters()]


@few
@_cases
def rnn_step(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """torch's RNNCell."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.RNNCell(m, n), seed)
    x, h = drawn(seed + 1, (B, m), (B, n))
    same(f(x, h, W, U, b_ih + b_hh), cell(x, h), "h'")


@few
@_cases
def rnn_step_backward(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Autograd's through torch's RNNCell."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.RNNCell(m, n), seed)
    x, h, delta = drawn(seed + 1, (B, m), (B, n), (B, n))
    leaves = x.clone().requires_grad_(), h.clone().requires_grad_()
    expected = torch.autograd.grad(cell(*leaves), (*leaves, cell.weight_ih, cell.weight_hh, cell.bias_ih), delta)
    same(tuple(f(delta, x, h, W, U, b_ih + b_hh)), expected, "(dL/dx, dL/dh, dL/dW, dL/dU, dL/db)", "autograd")


@few
@_cases
def rnn(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """torch's RNN, with h_0 before its states."""
    layer, (W, U, b_ih, b_hh) = _with_weights(nn.RNN(m, n), seed)
    x, h = drawn(seed + 1, (T, B, m), (1, B, n))
    same(f(x, h[0], W, U, b_ih + b_hh), torch.cat([h, layer(x, h)[0]]), "h_0 to h_T")


@few
@_cases
def backpropagation_through_time(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Autograd's through torch's RNNCell, with the gradient of every state."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.RNNCell(m, n), seed)
    x, h, deltas = drawn(seed + 1, (T, B, m), (B, n), (T, B, n))
    inputs, states = x.clone().requires_grad_(), [h.clone().requires_grad_()]
    for x_t in inputs:
        states.append(cell(x_t, states[-1]))
    loss = sum((state * delta).sum() for state, delta in zip(states[1:], deltas, strict=True))
    weights = cell.weight_ih, cell.weight_hh, cell.bias_ih
    dx, dW, dU, db, *dh = torch.autograd.grad(loss, (inputs, *weights, *states))
    found = tuple(f(deltas, x, h, W, U, b_ih + b_hh))
    same(found, (dx, torch.stack(dh), dW, dU, db), "(dL/dx, dL/dh, dL/dW, dL/dU, dL/db)", "autograd")


@few
@_cases
def lstm_gates(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Gates with which torch's LSTMCell is computed: i, f, g and o, in that order."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.LSTMCell(m, n), seed)
    x, h, c = drawn(seed + 1, (B, m), (B, n), (B, n))
    z = (x @ W.T + h @ U.T + b_ih + b_hh).chunk(4, -1)
    i, forget, g, o = f(x, h, W, U, b_ih + b_hh)
    expected = z[0].sigmoid(), z[1].sigmoid(), z[2].tanh(), z[3].sigmoid()
    same((i, forget, g, o), expected, "(i, f, g, o)", "the proof")
    new = forget * c + i * g
    same((o * torch.tanh(new), new), tuple(cell(x, (h, c))), "(h', c') of these gates")


@few
@_cases
def lstm_step(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """torch's LSTMCell."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.LSTMCell(m, n), seed)
    x, h, c = drawn(seed + 1, (B, m), (B, n), (B, n))
    same(tuple(f(x, h, c, W, U, b_ih + b_hh)), tuple(cell(x, (h, c))), "(h', c')")


@few
@_cases
def lstm_step_backward(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Autograd's through torch's LSTMCell."""
    cell, (W, U, b_ih, b_hh) = _with_weights(nn.LSTMCell(m, n), seed)
    x, h, c, delta_h, delta_c = drawn(seed + 1, (B, m), *[(B, n)] * 4)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, h, c)]
    weights = cell.weight_ih, cell.weight_hh, cell.bias_ih
    expected = torch.autograd.grad(cell(leaves[0], (leaves[1], leaves[2])), (*leaves, *weights), (delta_h, delta_c))
    found = tuple(f(delta_h, delta_c, x, h, c, W, U, b_ih + b_hh))
    same(found, expected, "(dL/dx, dL/dh, dL/dc, dL/dW, dL/dU, dL/db)", "autograd")


@few
@_cases
def constant_error_carousel(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Autograd's along the cell alone."""
    c, forget, written = drawn(seed, (B, n), (T, B, n), (T, B, n))
    forget = forget.sigmoid()
    cells = [c.requires_grad_()]
    for f_t, w_t in zip(forget, written, strict=True):
        cells.append(f_t * cells[-1] + w_t)
    expected = torch.stack(torch.autograd.grad(cells[-1].sum(), cells))
    same(f(forget), expected, "dc_T/dc_t", "autograd")


@few
@_cases
def gru_step(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """torch's GRUCell."""
    cell, weights = _with_weights(nn.GRUCell(m, n), seed)
    x, h = drawn(seed + 1, (B, m), (B, n))
    same(f(x, h, *weights), cell(x, h), "h'")


@few
@_cases
def gru_step_backward(f: Function, B: int, m: int, n: int, T: int, seed: int) -> None:
    """Autograd's through torch's GRUCell."""
    cell, weights = _with_weights(nn.GRUCell(m, n), seed)
    x, h, delta = drawn(seed + 1, (B, m), (B, n), (B, n))
    leaves = x.clone().requires_grad_(), h.clone().requires_grad_()
    expected = torch.autograd.grad(cell(*leaves), (*leaves, *cell.parameters()), delta)
    same(tuple(f(delta, x, h, *weights)), expected, "(dL/dx, dL/dh, dL/dW, dL/dU, dL/db_x, dL/db_h)", "autograd")
