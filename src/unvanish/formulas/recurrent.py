"""A recurrent network reads a sequence with the same weights at every step, and its gradient goes back step by step.

Shapes: B samples, T steps, m features of a step, n units. The gates of a cell are stacked as torch stacks them, one
below the other: an LSTM's i, f, g, o in W (4n, m) and U (4n, n), a GRU's r, z, n in W (3n, m) and U (3n, n).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unvanish.formulas._shapes import expect
from unvanish.formulas.activations import sigmoid, tanh
from unvanish.formulas.neuron import layer, layer_backward


class RNNGradients(NamedTuple):
    """dL/d of the inputs of ``rnn_step``; of ``backpropagation_through_time``, where x and h hold all steps."""

    x: Tensor
    h: Tensor
    W: Tensor
    U: Tensor
    b: Tensor


class LSTMState(NamedTuple):
    """The output h and the cell c, (B, n) each."""

    h: Tensor
    c: Tensor


class LSTMGates(NamedTuple):
    """i lets into the cell, f keeps it, g is what is let in, o lets out; (B, n) each."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor


class LSTMGradients(NamedTuple):
    """dL/d of the inputs of ``lstm_step``."""

    x: Tensor
    h: Tensor
    c: Tensor
    W: Tensor
    U: Tensor
    b: Tensor


class GRUGradients(NamedTuple):
    """dL/d of the inputs of ``gru_step``."""

    x: Tensor
    h: Tensor
    W: Tensor
    U: Tensor
    b_x: Tensor
    b_h: Tensor


def rnn_step(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """The state h' = tanh(W x + U h + b), (B, n) (Elman 1990).

    Args:
        x: (B, m).
        h: The state before, (B, n).
        W: (n, m).
        U: (n, n).
        b: (n,); the sum of torch's two biases.
    """
    _expect(1, x, W, U, {"h": h}, {"b": b})
    return tanh(layer(x, W, b) + h @ U.T)


def rnn_step_backward(delta: Tensor, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> RNNGradients:
    """dL/dz = delta (1 - h'^2) for delta = dL/dh' (B, n), and from it dL/dx = W^T dL/dz and dL/dh = U^T dL/dz."""
    _expect(1, x, W, U, {"delta": delta}, {})
    dz = delta * (1 - rnn_step(x, h, W, U, b) ** 2)
    return RNNGradients(*_backward_of_z(dz, x, h, W, U))


def rnn(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """h_t = tanh(W x_t + U h_(t-1) + b) for t = 1 to T: all states from h_0, which is given, to h_T, (T + 1, B, n).

    Args:
        x: x_1 to x_T, (T, B, m).
        h: h_0, (B, n).
        W: (n, m).
        U: (n, n).
        b: (n,).
    """
    states = [h]
    for x_t in x:
        states.append(rnn_step(x_t, states[-1], W, U, b))
    return torch.stack(states)


def backpropagation_through_time(deltas: Tensor, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> RNNGradients:
    """dL/dh_(t-1) = delta_(t-1) + U^T (dL/dh_t (1 - h_t^2)), from t = T back to 1 (Werbos 1990).

    delta_t, (T, B, n) for t = 1 to T, is what the loss says to h_t itself, not through later steps: 0 where it does not
    read h_t. The other inputs are those of ``rnn``.

    Returns:
        h: dL/dh_0 ... dL/dh_T, (T + 1, B, n); the first is that of the h given.
        x: (T, B, m).
        W, U, b: Summed over the steps and the samples.
    """
    if deltas.shape != (len(x), *h.shape):
        raise ValueError(
            f"deltas has shape {tuple(deltas.shape)}: must be {(len(x), *h.shape)} to fit the other arguments"
        )
    states = rnn(x, h, W, U, b)
    dh = torch.cat([torch.zeros_like(h).unsqueeze(0), deltas])
    dx, dW, dU, db = (torch.zeros_like(tensor) for tensor in (x, W, U, b))
    for t in range(len(x), 0, -1):
        step = rnn_step_backward(dh[t], x[t - 1], states[t - 1], W, U, b)  # x[t - 1] is x_t, as x_1 comes first
        dh[t - 1] += step.h
        dx[t - 1] = step.x
        dW, dU, db = dW + step.W, dU + step.U, db + step.b
    return RNNGradients(dx, dh, dW, dU, db)


def lstm_gates(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> LSTMGates:
    """i, f, o = sigmoid(W x + U h + b) and g = tanh(W x + U h + b), each with its own n rows of W, U and b."""
    _expect(4, x, W, U, {"h": h}, {"b": b})
    i, f, g, o = (layer(x, W, b) + h @ U.T).chunk(4, dim=-1)
    return LSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o))


def lstm_step(x: Tensor, h: Tensor, c: Tensor, W: Tensor, U: Tensor, b: Tensor) -> LSTMState:
    """The cell c' = f c + i g and h' = o tanh(c') (Hochreiter and Schmidhuber 1997; forget gate f: Gers et al. 2000).

    Args:
        x: (B, m).
        h: The output before, (B, n).
        c: The cell before, (B, n).
        W: (4n, m).
        U: (4n, n).
        b: (4n,); the sum of torch's two biases.
    """
    _expect(4, x, W, U, {"c": c}, {})
    i, f, g, o = lstm_gates(x, h, W, U, b)
    c = f * c + i * g
    return LSTMState(o * tanh(c), c)


def lstm_step_backward(
    delta_h: Tensor, delta_c: Tensor, x: Tensor, h: Tensor, c: Tensor, W: Tensor, U: Tensor, b: Tensor
) -> LSTMGradients:
    """dL/dc' = delta_c + delta_h o (1 - tanh(c')^2), and from it dL/dc = f dL/dc' and the gradients of the gates.

    delta_h (B, n) is dL/dh'. delta_c (B, n) is what the next step says to c', without the path through h'.
    """
    _expect(4, x, W, U, {"delta_h": delta_h, "delta_c": delta_c, "c": c}, {})
    i, f, g, o = lstm_gates(x, h, W, U, b)
    tanh_c = tanh(f * c + i * g)
    dc = delta_c + delta_h * o * (1 - tanh_c**2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = delta_h * tanh_c * o * (1 - o)
    dx, dh, dW, dU, db = _backward_of_z(torch.cat([dz_i, dz_f, dz_g, dz_o], dim=-1), x, h, W, U)
    return LSTMGradients(dx, dh, dc * f, dW, dU, db)


def constant_error_carousel(f: Tensor) -> Tensor:
    """dc_T/dc_t = f_(t+1) f_(t+2) ... f_T along the cell alone, for t = 0 to T: (T, B, n) -> (T + 1, B, n).

    One step is dc_t/dc_(t-1) = f_t. The cell of 1997 has no forget gate, f = 1: its error stays constant (Hochreiter
    and Schmidhuber 1997, 3.2). True for this direct path only: with U other than 0, c_(t-1) acts on c_t through h_(t-1)
    and the gates as well.

    Args:
        f: The forget gates f_1 ... f_T.
    """
    return torch.cat([f, f.new_ones(1, *f.shape[1:])]).flip(0).cumprod(0).flip(0)


def gru_step(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b_x: Tensor, b_h: Tensor) -> Tensor:
    """The state h' = (1 - z) n + z h with gates r, z and a candidate n, (B, n) (Cho et al. 2014).

    r, z = sigmoid(W x + b_x + U h + b_h), n = tanh(W x + b_x + r (U h + b_h)), each with its own n rows. The reset r
    acts after the product with U, as in torch; in the paper before it, U (r h). So n has two biases, not their sum.

    Args:
        x: (B, m).
        h: The state before, (B, n).
        W: (3n, m).
        U: (3n, n).
        b_x: (3n,), beside W; torch's bias_ih.
        b_h: (3n,), beside U; torch's bias_hh.
    """
    _expect(3, x, W, U, {"h": h}, {"b_x": b_x, "b_h": b_h})
    _, z, n, _ = _gru_gates(x, h, W, U, b_x, b_h)
    return (1 - z) * n + z * h


def gru_step_backward(
    delta: Tensor, x: Tensor, h: Tensor, W: Tensor, U: Tensor, b_x: Tensor, b_h: Tensor
) -> GRUGradients:
    """dL/dn = delta (1 - z), dL/dz = delta (h - n), dL/dr = dL/dn (1 - n^2) (U h + b_h), for delta = dL/dh' (B, n).

    dL/dh has two parts: delta z, which no matrix touches, and what comes back through U.
    """
    _expect(3, x, W, U, {"delta": delta, "h": h}, {"b_x": b_x, "b_h": b_h})
    r, z, n, from_h = _gru_gates(x, h, W, U, b_x, b_h)
    dz_n = delta * (1 - z) * (1 - n**2)
    dz_r = dz_n * from_h * r * (1 - r)
    dz_z = delta * (h - n) * z * (1 - z)
    dx, dW, db_x = layer_backward(torch.cat([dz_r, dz_z, dz_n], dim=-1), x, W)
    dh, dU, db_h = layer_backward(torch.cat([dz_r, dz_z, dz_n * r], dim=-1), h, U)
    return GRUGradients(dx, dh + delta * z, dW, dU, db_x, db_h)


def _gru_gates(
    x: Tensor, h: Tensor, W: Tensor, U: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z, n, and what r is multiplied with, (B, n) each."""
    r_x, z_x, n_x = layer(x, W, b_x).chunk(3, dim=-1)
    r_h, z_h, n_h = layer(h, U, b_h).chunk(3, dim=-1)
    r = sigmoid(r_x + r_h)
    return r, sigmoid(z_x + z_h), tanh(n_x + r * n_h), n_h


def _backward_of_z(dz: Tensor, x: Tensor, h: Tensor, W: Tensor, U: Tensor) -> tuple[Tensor, ...]:
    """dL/d(x, h, W, U, b) of z = W x + U h + b, from dL/dz."""
    dx, dW, db = layer_backward(dz, x, W)
    dh, dU, _ = layer_backward(dz, h, U)
    return dx, dh, dW, dU, db


def _expect(gates: int, x: Tensor, W: Tensor, U: Tensor, states: dict[str, Tensor], biases: dict[str, Tensor]) -> None:
    """Torch would broadcast some wrong shapes to a wrong answer, and take the weights of another cell."""
    (samples, features), units = x.shape, U.shape[1]
    shapes: dict[str, tuple[int, ...]] = {"W": (gates * units, features), "U": (gates * units, units)}
    shapes |= dict.fromkeys(states, (samples, units)) | dict.fromkeys(biases, (gates * units,))
    for name, found in ({"W": W, "U": U} | states | biases).items():
        expect(name, found, shapes[name])
