from functools import partial
from itertools import chain, islice, pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from unvanish.formulas.activations import relu, relu_derivative, sigmoid, sigmoid_derivative, tanh, tanh_derivative
from unvanish.formulas.backpropagation import backward, output_delta, train
from unvanish.formulas.batches import batches
from unvanish.formulas.losses import (
    binary_cross_entropy_derivative,
    categorical_cross_entropy_derivative,
    mean_squared_error_derivative,
)
from unvanish.formulas.neuron import forward
from unvanish.formulas.optimizers import adam, adam_start, adamw, momentum, rmsprop, sgd

SIGMAS = {  # ours, its derivative, torch's
    "sigmoid": (sigmoid, sigmoid_derivative, torch.sigmoid),
    "tanh": (tanh, tanh_derivative, torch.tanh),
    "relu": (relu, relu_derivative, torch.relu),
}
CLASSES = 10

assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, generator):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def parameters(widths, generator):
    """Ws and bs of an MLP, of He's size."""
    Ws = [normal(n_out, n_in, generator=generator) * (2 / n_in) ** 0.5 for n_in, n_out in pairwise(widths)]
    return Ws, [0.1 * normal(n_out, generator=generator) for n_out in widths[1:]]


def identity(z):
    return z


# Backward


def test_fused_with_its_cross_entropy_sigmoids_delta_is_y_hat_minus_y():
    z = normal(7, generator=seeded())
    y = torch.arange(7).remainder(2).double()
    y_hat = sigmoid(z)
    dL_dy_hat = (y_hat - y) / (y_hat * (1 - y_hat)) / 7
    delta = output_delta(dL_dy_hat, z, sigmoid_derivative)
    assert_close(delta, (y_hat - y) / 7)
    assert_close(delta, binary_cross_entropy_derivative(z, y))


@pytest.mark.parametrize("wrong", [(5,), (1, 1), (5, 5)])
def test_a_delta_of_another_shape_is_refused(wrong):
    z, delta = torch.ones(5, 1), torch.ones(wrong)
    with pytest.raises(ValueError, match="dL/dy_hat has shape"):
        output_delta(delta, z, tanh_derivative)
    with pytest.raises(ValueError, match="delta has shape"):
        backward(delta, [torch.ones(1, 3)], [z], [torch.ones(5, 3), z], [])


def test_lists_that_do_not_fit_are_refused():
    Ws, bs = parameters((3, 2, 5), seeded())
    zs, activations = forward(torch.ones(7, 3, dtype=torch.float64), Ws, bs, [tanh, identity])
    fitting = [Ws, zs, activations, [tanh_derivative]]
    backward(zs[-1], *fitting)
    for i in range(4):
        for wrong in ([], fitting[i] * 2):
            with pytest.raises(ValueError, match="must be L, L, L \\+ 1 and L - 1"):
                backward(zs[-1], *fitting[:i], wrong, *fitting[i + 1 :])


# Training


def stateless_sgd(theta, g, state, eta):
    return sgd(theta, g, eta), state


def no_state(theta):
    return None


@pytest.fixture(scope="module")
def digits():
    """8 x 8 images of handwritten digits, (1797, 64) in [0, 1], and their classes, one-hot."""
    data = load_digits()
    return torch.from_numpy(data.data) / 16, F.one_hot(torch.from_numpy(data.target), CLASSES).double()


def epochs(samples, batch_size, generator):
    """Batches without end."""
    while True:
        yield from batches(samples, batch_size, generator)


def torch_mlp(Ws, bs, activation):
    """The same network of torch.nn."""
    linears = [nn.Linear(*W.T.shape, dtype=W.dtype) for W in Ws]
    for linear, W, b in zip(linears, Ws, bs, strict=True):
        linear.load_state_dict({"weight": W, "bias": b})
    return nn.Sequential(*chain.from_iterable((linear, activation()) for linear in linears[:-1]), linears[-1])


def follows(x, y, widths, name, loss_derivative, torch_loss, update, start, optimizer, steps):
    """Whether train keeps to autograd and torch's optimizer after every step. Returns the losses."""
    Ws, bs = parameters(widths, seeded())
    states = [start(theta) for theta in [*Ws, *bs]]
    sigma, derivative, _ = SIGMAS[name]
    mlp = torch_mlp(Ws, bs, {"tanh": nn.Tanh, "relu": nn.ReLU}[name])
    optimizer = optimizer(mlp.parameters())
    losses = []
    for batch in islice(epochs(len(x), 32, seeded()), steps):
        Ws, bs, states = train(x, y, Ws, bs, sigma, derivative, loss_derivative, [batch], update, states)
        optimizer.zero_grad()
        loss = torch_loss(mlp(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        for found, twin in zip(chain.from_iterable(zip(Ws, bs, strict=True)), mlp.parameters(), strict=True):
            assert (found - twin.detach()).abs().max() < 1e-9
    return losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "update", "start", "optimizer", "steps"),
    [
        ("tanh", partial(stateless_sgd, eta=0.3), no_state, partial(torch.optim.SGD, lr=0.3), 500),
        ("relu", partial(adam, eta=0.003), adam_start, partial(torch.optim.Adam, lr=0.003), 500),
        (
            "relu",
            partial(momentum, eta=0.03, mu=0.9),
            torch.zeros_like,
            partial(torch.optim.SGD, lr=0.03, momentum=0.9),
            50,
        ),
        (
            "tanh",
            partial(rmsprop, eta=0.003, alpha=0.9, epsilon=1e-8),
            torch.zeros_like,
            partial(torch.optim.RMSprop, lr=0.003, alpha=0.9),
            50,
        ),
        (
            "tanh",
            partial(adamw, eta=0.003, weight_decay=0.1),
            adam_start,
            partial(torch.optim.AdamW, lr=0.003, weight_decay=0.1),
            50,
        ),
    ],
    ids=["sgd", "adam", "momentum", "rmsprop", "adamw"],
)
def test_training_by_hand_follows_autograd_step_for_step(digits, name, update, start, optimizer, steps):
    widths, derivative = (64, 32, 16, CLASSES), categorical_cross_entropy_derivative
    losses = follows(*digits, widths, name, derivative, F.cross_entropy, update, start, optimizer, steps)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])  # they went somewhere


def test_training_a_binary_network_follows_autograd_step_for_step(digits):
    x, y = digits
    odd = y[:, 1::2].sum(dim=1, keepdim=True)
    derivative, torch_loss = binary_cross_entropy_derivative, F.binary_cross_entropy_with_logits
    update, optimizer = partial(stateless_sgd, eta=0.3), partial(torch.optim.SGD, lr=0.3)
    follows(x, odd, (64, 17, 1), "tanh", derivative, torch_loss, update, no_state, optimizer, 50)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_training_by_hand_learns_digits(digits, seed):
    generator = seeded(seed)
    x, y = digits
    test, training = torch.randperm(len(x), generator=generator).split([360, len(x) - 360])
    Ws, bs = parameters((64, 128, 64, CLASSES), generator)
    states = [adam_start(theta) for theta in [*Ws, *bs]]
    indices = islice(epochs(len(training), 64, generator), 900)  # 39 epochs
    loss_derivative, update = categorical_cross_entropy_derivative, partial(adam, eta=0.003)
    Ws, bs, _ = train(x[training], y[training], Ws, bs, relu, relu_derivative, loss_derivative, indices, update, states)
    logits = forward(x[test], Ws, bs, [relu, relu, identity])[0][-1]
    accuracy = (logits.argmax(dim=1) == y[test].argmax(dim=1)).double().mean()
    assert accuracy >= 0.96


def test_training_goes_on_from_what_it_returned_and_changes_nothing_that_it_was_given():
    x, y = normal(2, 7, 3, generator=seeded())
    Ws, bs = parameters((3, 5, 3), seeded())
    states = [adam_start(theta) for theta in [*Ws, *bs]]
    given = [x, y, *Ws, *bs, *chain.from_iterable(state[:2] for state in states)]
    before = [tensor.clone() for tensor in given]
    indices = batches(7, 2, seeded())
    run = partial(
        train,
        sigma=tanh,
        sigma_derivative=tanh_derivative,
        loss_derivative=mean_squared_error_derivative,
        update=partial(adam, eta=0.1),
    )
    at_once = run(x, y, Ws, bs, batch_indices=indices, states=states)
    for batch in indices:
        Ws, bs, states = run(x, y, Ws, bs, batch_indices=[batch], states=states)
    for found, expected in zip([*Ws, *bs], [*at_once[0], *at_once[1]], strict=True):
        assert torch.equal(found, expected)
    assert [state.t for state in at_once[2]] == [4] * 4
    assert all(torch.equal(old, now) for old, now in zip(before, given, strict=True))
