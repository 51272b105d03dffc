import pytest
import torch

from unvanish.formulas.activations import relu, sigmoid, tanh
from unvanish.formulas.neuron import forward, layer, layer_backward, neuron

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def draw(seed, *shapes):
    """A normal tensor in float64 of each shape, with autograd."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def test_a_neuron_by_hand():
    x, w = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), torch.tensor([2.0, -3.0, 5.0])
    assert neuron(x, w, torch.tensor(7.0), relu).tolist() == [2 - 6 + 15 + 7, 5 + 7]
    assert neuron(x, w, torch.tensor(-11.0), sigmoid)[0] == 0.5


def test_a_layer_is_as_many_neurons():
    x, W, b = draw(2, (7, 3), (5, 3), (5,))
    neurons = [neuron(x, W[i], b[i], tanh) for i in range(5)]
    torch.testing.assert_close(tanh(layer(x, W, b)), torch.stack(neurons, dim=-1), **EXACT)


def test_each_row_of_a_layer_is_the_primers_product():
    a, W, b = draw(3, (7, 3), (5, 3), (5,))
    torch.testing.assert_close(layer(a, W, b)[4], W @ a[4] + b, **EXACT)


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
