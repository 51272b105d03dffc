from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unvanish.formulas.activations import relu, sigmoid, softmax, tanh
from unvanish.formulas.neuron import forward, layer, layer_backward, neuron

EXACT = {"rtol": 1e-10, "atol": 1e-10}
few = settings(max_examples=25, deadline=None, database=None)
sizes = st.integers(1, 7)
seeds = st.integers(0, 2**31)


def draw(seed, *shapes):
    """A normal tensor in float64 of each shape, with autograd."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


@few
@given(seed=seeds, n=sizes, batch=st.lists(sizes, max_size=2))
def test_a_neuron_is_a_linear_unit_and_its_activation(seed, n, batch):
    x, w, b = draw(seed, (*batch, n), (n,), ())
    expected = torch.sigmoid(F.linear(x, w.unsqueeze(0), b.unsqueeze(0))).squeeze(-1)
    torch.testing.assert_close(neuron(x, w, b, sigmoid), expected, **EXACT)


def test_a_neuron_by_hand():
    x, w = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), torch.tensor([2.0, -3.0, 5.0])
    assert neuron(x, w, torch.tensor(7.0), relu).tolist() == [2 - 6 + 15 + 7, 5 + 7]
    assert neuron(x, w, torch.tensor(-11.0), sigmoid)[0] == 0.5


@few
@given(seed=seeds, batch=sizes, n_in=sizes, n_out=sizes)
def test_a_layer_is_torchs(seed, batch, n_in, n_out):
    a, W, b = draw(seed, (batch, n_in), (n_out, n_in), (n_out,))
    torch.testing.assert_close(layer(a, W, b), F.linear(a, W, b), **EXACT)


@few
@given(seed=seeds, batch=sizes, n_in=sizes, n_out=sizes)
def test_layer_backward_is_autograds(seed, batch, n_in, n_out):
    a, W, b, delta = draw(seed, (batch, n_in), (n_out, n_in), (n_out,), (batch, n_out))
    expected = torch.autograd.grad(F.linear(a, W, b), (a, W, b), delta)
    torch.testing.assert_close(layer_backward(delta, a, W), expected, **EXACT)


def test_a_layer_is_as_many_neurons():
    x, W, b = draw(2, (7, 3), (5, 3), (5,))
    neurons = [neuron(x, W[i], b[i], tanh) for i in range(5)]
    torch.testing.assert_close(tanh(layer(x, W, b)), torch.stack(neurons, dim=-1), **EXACT)


def test_each_row_of_a_layer_is_the_primers_product():
    a, W, b = draw(3, (7, 3), (5, 3), (5,))
    torch.testing.assert_close(layer(a, W, b)[4], W @ a[4] + b, **EXACT)


@few
@given(seed=seeds, batch=sizes, widths=st.lists(sizes, min_size=2, max_size=5))
def test_forward_is_a_sequential_network_with_the_same_weights(seed, batch, widths):
    depth = len(widths) - 1
    x, *parameters = draw(seed, (batch, widths[0]), *((m, n) for n, m in pairwise(widths)), *((m,) for m in widths[1:]))
    Ws, bs = parameters[:depth], parameters[depth:]
    network = nn.Sequential()
    for W, b in zip(Ws, bs, strict=True):
        linear = nn.Linear(*W.shape[::-1], dtype=torch.float64)
        linear.load_state_dict({"weight": W, "bias": b})
        network.extend([linear, nn.Tanh()])
    network[-1] = nn.Softmax(dim=-1)
    expected = [x]
    for module in network:
        expected.append(module(expected[-1]))

    zs, activations = forward(x, Ws, bs, [tanh] * (depth - 1) + [softmax])

    torch.testing.assert_close(zs, expected[1::2], **EXACT)
    torch.testing.assert_close(activations, expected[::2], **EXACT)


def test_forward_without_layers_is_its_input():
    (x,) = draw(5, (7, 3))
    zs, activations = forward(x, [], [], [])
    assert zs == []
    assert len(activations) == 1
    assert activations[0] is x


@pytest.mark.parametrize("shape", [(), (1,), (2,), (7,), (3, 1), (1, 3)])
def test_a_neuron_refuses_weights_that_are_not_one_for_each_input(shape):
    with pytest.raises(ValueError, match=r"^w has shape .* must be \(3,\)"):
        neuron(torch.ones(7, 3), torch.ones(shape), torch.ones(()), tanh)


@pytest.mark.parametrize("shape", [(1,), (7,), (7, 1)])
def test_a_neuron_refuses_a_bias_that_is_not_one_number(shape):
    with pytest.raises(ValueError, match=r"^b has shape .* must be \(\)"):
        neuron(torch.ones(7, 3), torch.ones(3), torch.ones(shape), tanh)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (7, 5), (1, 5), (7, 1)])
def test_a_layer_refuses_a_bias_that_is_not_one_for_each_neuron(shape):
    with pytest.raises(ValueError, match=r"^b has shape .* must be \(5,\)"):
        layer(torch.ones(7, 3), torch.ones(5, 3), torch.ones(shape))


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2), (5, 3, 1), (5, 7, 3)])
def test_a_layer_refuses_weights_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"^W has shape .* must be \(5, 3\)"):
        layer(torch.ones(7, 3), torch.ones(shape), torch.ones(5))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 1), (7, 3), (2, 7, 5)])
def test_layer_backward_refuses_a_delta_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"^delta has shape .* must be \(7, 5\)"):
        layer_backward(torch.ones(shape), torch.ones(7, 3), torch.ones(5, 3))


@pytest.mark.parametrize("shape", [(7, 2), (7, 1), (7, 7, 3)])
def test_layer_backward_refuses_an_input_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"^a has shape .* must be \(7, 3\)"):
        layer_backward(torch.ones(7, 5), torch.ones(shape), torch.ones(5, 3))


def test_forward_refuses_lists_that_differ_in_length():
    x, W, b = draw(11, (7, 3), (3, 3), (3,))
    for Ws, bs, sigmas in [([W, W], [b], [tanh]), ([W], [b, b], [tanh]), ([W], [b], [tanh, tanh])]:
        with pytest.raises(ValueError, match=r"Ws, bs and sigmas"):
            forward(x, Ws, bs, sigmas)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays_and_so_do_the_arguments(dtype):
    a, W, b, delta = arguments = [t.detach().to(dtype) for t in draw(13, (7, 3), (5, 3), (5,), (7, 5))]
    before = [t.clone() for t in arguments]
    zs, activations = forward(a, [W], [b], [relu])
    found = [neuron(a, W[0], b[0], relu), layer(a, W, b), *layer_backward(delta, a, W), *zs, *activations]
    assert {t.dtype for t in found} == {dtype}
    torch.testing.assert_close(arguments, before, rtol=0, atol=0)
