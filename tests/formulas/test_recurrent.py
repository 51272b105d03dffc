import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unvanish.formulas.recurrent import (
    backpropagation_through_time,
    constant_error_carousel,
    gru_step,
    gru_step_backward,
    lstm_gates,
    lstm_step,
    lstm_step_backward,
    rnn,
    rnn_step,
    rnn_step_backward,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31)
drawn_cases = given(B=sizes, m=sizes, n=sizes, T=sizes, seed=seeds)
quick = settings(max_examples=25, deadline=None)


def drawn(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def with_weights(module, seed):
    """W, U, b_ih, b_hh, drawn anew: torch's own draw is small, and its cells nearly linear"""
    module = module.double()
    for parameter, value in zip(module.parameters(), drawn(seed, *(p.shape for p in module.parameters())), strict=True):
        parameter.data = value
    return module, [parameter.detach() for parameter in module.parameters()]


def test_a_gradient_shrinks_by_u_at_every_step_back():
    T, n = 7, 2
    zero = torch.zeros
    deltas = zero(T, 1, n)
    deltas[-1] = torch.tensor([[1.0, 3.0]])
    U = torch.tensor([[0.5, 0.0], [1.0, 0.25]])  # all states are 0, where tanh' = 1
    found = backpropagation_through_time(deltas, zero(T, 1, 1), zero(1, n), zero(n, 1), U, zero(n)).h
    for t in range(T + 1):
        torch.testing.assert_close(found[t], deltas[-1] @ torch.linalg.matrix_power(U, T - t))


def test_a_loss_that_reads_no_state_has_no_gradient():
    x, h, W, U, b = drawn(3, (3, 2, 5), (2, 7), (7, 5), (7, 7), (7,))
    found = backpropagation_through_time(torch.zeros(3, 2, 7, dtype=torch.float64), x, h, W, U, b)
    assert not any(gradient.any() for gradient in found)


@quick
@drawn_cases
def test_steps_of_an_lstm_one_after_another_are_torchs_lstm(B, m, n, T, seed):
    layer, (W, U, b_ih, b_hh) = with_weights(nn.LSTM(m, n), seed)
    x, h, c, deltas = drawn(seed + 1, (T, B, m), (1, B, n), (1, B, n), (T, B, n))
    expected, (_, last_c) = layer(x.requires_grad_(), (h.requires_grad_(), c.requires_grad_()))
    states, b = [(h.detach()[0], c.detach()[0])], b_ih + b_hh
    for x_t in x.detach():
        states.append(lstm_step(x_t, *states[-1], W, U, b))
    torch.testing.assert_close(torch.stack([h for h, _ in states[1:]]), expected.detach(), **CLOSE)
    torch.testing.assert_close(states[-1][1], last_c.detach()[0], **CLOSE)

    delta_h, delta_c, dW = torch.zeros_like(h[0]), torch.zeros_like(c[0]), 0
    for t in reversed(range(T)):
        step = lstm_step_backward(delta_h + deltas[t], delta_c, x.detach()[t], *states[t], W, U, b)
        delta_h, delta_c, dW = step.h, step.c, dW + step.W
    expected = torch.autograd.grad(expected, (h, c, layer.weight_ih_l0), deltas)
    torch.testing.assert_close((delta_h.detach().unsqueeze(0), delta_c.detach().unsqueeze(0), dW), expected, **CLOSE)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_carousel_is_the_cells_whole_gradient_only_without_recurrent_weights(recurrent):
    T, B, m, n = 5, 2, 3, 7
    x, h, c, W, U, b = drawn(11, (T, B, m), (B, n), (B, n), (4 * n, m), (4 * n, n), (4 * n,))
    U = U * recurrent
    cells, forget = [c.requires_grad_()], []
    for x_t in x:
        forget.append(lstm_gates(x_t, h, W, U, b).f)
        h, c = lstm_step(x_t, h, c, W, U, b)
        cells.append(c)
    whole = torch.stack(torch.autograd.grad(cells[-1].sum(), cells))
    found = constant_error_carousel(torch.stack(forget).detach())
    assert found.shape == (T + 1, B, n)
    assert torch.allclose(found, whole, **CLOSE) is not recurrent


def test_without_forgetting_the_error_is_constant():
    assert constant_error_carousel(torch.ones(101, 1, 1)).tolist() == [[[1.0]]] * 102
    assert constant_error_carousel(torch.ones(0, 2, 3)).tolist() == torch.ones(1, 2, 3).tolist()


def test_open_and_closed_gates_far_out():
    x, h, c, W, U = (
        torch.zeros(1, 1),
        torch.tensor([[0.5]]),
        torch.tensor([[0.75]]),
        torch.zeros(4, 1),
        torch.zeros(4, 1),
    )
    keep = torch.tensor([-1e4, 1e4, 1e4, 1e4])  # i = 0, f = 1, g = 1, o = 1
    assert lstm_step(x, h, c, W, U, keep).c.item() == 0.75
    assert lstm_step_backward(h, c, x, h, c, W, U, keep).c.item() == pytest.approx(
        0.75 + 0.5 / torch.tensor(0.75).cosh() ** 2
    )
    write = torch.tensor([1e4, -1e4, -1e4, -1e4])  # i = 1, f = 0, g = -1, o = 0
    assert lstm_step(x, h, c, W, U, write) == (0, -1)
    none, hold = torch.zeros(3), torch.tensor([0.0, 1e4, 0.0])  # z = 1
    assert gru_step(x, h, W[:3], U[:3], hold, none).item() == 0.5
    assert gru_step_backward(c, x, h, W[:3], U[:3], hold, none).h.item() == 0.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes_stay_and_arguments_do_not_change(dtype):
    shapes = (2, 5, 3), (5, 7), (5, 7), (28, 3), (28, 7), (28,), (2, 5, 7)
    inputs = [tensor.to(dtype) for tensor in drawn(3, *shapes)]
    before = [tensor.clone() for tensor in inputs]
    x, h, c, W, U, b, deltas = inputs
    found = [*lstm_step(x[0], h, c, W, U, b), *lstm_step_backward(c, h, x[0], h, c, W, U, b)]
    found += [gru_step(x[0], h, W[7:], U[7:], b[7:], b[:21])]
    found += [*gru_step_backward(c, x[0], h, W[7:], U[7:], b[7:], b[:21])]
    found += [rnn(x, h, W[:7], U[:7], b[:7]), *backpropagation_through_time(deltas, x, h, W[:7], U[:7], b[:7])]
    found += [constant_error_carousel(deltas)]
    assert {tensor.dtype for tensor in found} == {dtype}
    assert all(torch.equal(*pair) for pair in zip(before, inputs, strict=True))


x, h, c, W, U, b = drawn(3, (5, 3), (5, 7), (5, 7), (28, 3), (28, 7), (28,))
rnn_weights, gru_weights = (W[:7], U[:7], b[:7]), (W[:21], U[:21], b[:21], b[:21])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rnn_step(x, h[:1], *rnn_weights), r"h has shape \(1, 7\): must be \(5, 7\)"),
        (lambda: rnn_step(x, h, W, U, b), r"W has shape \(28, 3\): must be \(7, 3\)"),
        (lambda: rnn_step(x, h, *rnn_weights[:2], b[:1]), r"b has shape \(1,\): must be \(7,\)"),
        (lambda: rnn_step_backward(h[:, :1], x, h, *rnn_weights), r"delta has shape \(5, 1\): must be \(5, 7\)"),
        (lambda: rnn_step_backward(h[:1], x, h, *rnn_weights), r"delta has shape \(1, 7\): must be \(5, 7\)"),
        (
            lambda: backpropagation_through_time(h.expand(3, 5, 7), x.expand(2, 5, 3), h, *rnn_weights),
            r"deltas has shape \(3, 5, 7\): must be \(2, 5, 7\)",
        ),
        (
            lambda: backpropagation_through_time(h[:, :1].expand(2, 5, 1), x.expand(2, 5, 3), h, *rnn_weights),
            r"deltas has shape \(2, 5, 1\): must be \(2, 5, 7\)",
        ),
        (lambda: lstm_gates(x, h[:1], W, U, b), "h has shape"),
        (lambda: lstm_step(x, h, c[:, :1], W, U, b), r"c has shape \(5, 1\): must be \(5, 7\)"),
        (lambda: lstm_step(x, h, c, *rnn_weights), r"W has shape \(7, 3\): must be \(28, 3\)"),
        (lambda: lstm_step(x, h, c, W, U, b[:1]), r"b has shape \(1,\): must be \(28,\)"),
        (lambda: lstm_step_backward(h[:1], c, x, h, c, W, U, b), "delta_h has shape"),
        (lambda: lstm_step_backward(h, c[:1], x, h, c, W, U, b), "delta_c has shape"),
        (lambda: lstm_step_backward(h, c, x, h, c[:1], W, U, b), r"c has shape \(1, 7\)"),
        (lambda: gru_step(x, h[:1], *gru_weights), "h has shape"),
        (lambda: gru_step(x, h, *gru_weights[:3], b[:1]), "b_h has shape"),
        (lambda: gru_step(x, h, *gru_weights[:2], b[:1], b[:21]), "b_x has shape"),
        (lambda: gru_step_backward(h[:1], x, h, *gru_weights), "delta has shape"),
        (lambda: gru_step_backward(h, x, h[:1], *gru_weights), "h has shape"),
    ],
)
def test_what_torch_would_broadcast_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
