from functools import partial

import pytest
import torch
from hypothesis import strategies as st

from unvanish.formulas.optimizers import adam, adam_start, adam_with_l2, adamw, momentum, rmsprop, sgd
from unvanish.formulas.regularization import l2_gradient

STEPS = 50
SEEDS, ETAS, SHARES = st.integers(0, 2**31), st.floats(1e-3, 0.1), st.floats(0.5, 0.99)  # less, and Adam is chaotic
EPSILONS, DECAYS = st.sampled_from([1e-8, 1e-3, 0.1]), st.floats(0.01, 0.5)
SIZES = 10 ** torch.linspace(-2, 2, 7, dtype=torch.float64)  # of the gradients

assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def stateless_sgd(theta, g, state, eta):
    return sgd(theta, g, eta), state


UPDATES = {
    "sgd": (partial(stateless_sgd, eta=0.1), torch.zeros_like),
    "momentum": (partial(momentum, eta=0.1, mu=0.9), torch.zeros_like),
    "rmsprop": (partial(rmsprop, eta=0.1, alpha=0.9, epsilon=1e-8), torch.zeros_like),
    "adam": (partial(adam, eta=0.1), adam_start),
    "adam_with_l2": (partial(adam_with_l2, eta=0.1, lambda_=0.1), adam_start),
    "adamw": (partial(adamw, eta=0.1, weight_decay=0.1), adam_start),
}


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def follows(optimizer, update, start, seed):
    """Whether update keeps to torch's optimizer, for gradients of many sizes."""
    theta, *gradients = normal(STEPS + 1, 3, 7, seed=seed)
    twin = torch.nn.Parameter(theta.clone())
    optimizer, state = optimizer([twin]), start(theta)
    for g in gradients:
        twin.grad = SIZES * g
        optimizer.step()
        theta, state = update(theta, SIZES * g, state)
        assert_close(theta, twin.detach())


@pytest.mark.parametrize(
    ("twin", "update"),
    [
        (torch.optim.Adam, adam),
        (partial(torch.optim.Adam, weight_decay=0.2), partial(adam_with_l2, lambda_=0.1)),
        (partial(torch.optim.AdamW, weight_decay=0.2), partial(adamw, weight_decay=0.2)),
    ],
)
def test_the_defaults_are_torchs(twin, update):
    follows(partial(twin, lr=0.01), partial(update, eta=0.01), adam_start, seed=0)


def decayed(plain, shrinking, start):
    """How much smaller the second rule leaves weights of 1 than the first, for gradients of +-0.1 and +-10 in turn."""
    ends = []
    for update in (plain, shrinking):
        theta = torch.ones(2, dtype=torch.float64)
        state = start(theta)
        for step in range(100):
            theta, state = update(theta, torch.tensor([0.1, 10.0], dtype=torch.float64) * (-1) ** step, state)
        ends.append(theta)
    return ends[0] - ends[1]


def test_l2_and_weight_decay_are_the_same_for_sgd_and_not_for_adam():
    eta, lambda_ = 0.01, 0.05

    def sgd_with_l2(theta, g, state):
        return sgd(theta, g + l2_gradient(theta, lambda_), eta), state

    def sgdw(theta, g, state):
        return sgd(theta, g, eta) - eta * 2 * lambda_ * theta, state

    plain = partial(stateless_sgd, eta=eta)
    of_sgd = [decayed(plain, update, torch.zeros_like) for update in (sgd_with_l2, sgdw)]
    assert_close(*of_sgd)
    assert of_sgd[0].min() > 0.05

    plain = partial(adam, eta=eta)
    with_l2, with_decay = (
        partial(adam_with_l2, eta=eta, lambda_=lambda_),
        partial(adamw, eta=eta, weight_decay=2 * lambda_),
    )
    of_l2, of_decay = (decayed(plain, update, adam_start) for update in (with_l2, with_decay))
    assert of_l2[1] < 0.02 * of_l2[0]  # the gradient that is 100 times as large keeps its weight from decaying
    assert of_decay[1].item() == pytest.approx(of_decay[0].item(), rel=1e-6)
    assert of_decay.min() > 0.05


def test_adams_first_step_is_eta_whatever_the_size_of_the_gradient():
    theta, g = normal(2, 7, seed=0)
    stepped, state = adam(theta, g * SIZES, adam_start(theta), eta=0.1, epsilon=0)
    assert_close(stepped, theta - 0.1 * g.sign())
    assert state.t == 1


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam"])
def test_without_a_gradient_nothing_moves(name):
    update, start = UPDATES[name]
    theta = normal(5, seed=0)
    assert torch.equal(update(theta, torch.zeros_like(theta), start(theta))[0], theta)


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_dtype_stays_and_nothing_is_changed_in_place(name, dtype):
    update, start = UPDATES[name]
    theta, g = normal(2, 5, seed=0).to(dtype)
    _, state = update(theta, g, start(theta))
    given = [t for t in (theta, g, *(state if isinstance(state, tuple) else [state])) if isinstance(t, torch.Tensor)]
    before = [t.clone() for t in given]
    stepped, new = update(theta, g, state)
    found = [stepped, *(new[:2] if isinstance(new, tuple) else [new])]
    assert {t.dtype for t in found} == {dtype}
    assert all(torch.equal(t, old) for t, old in zip(given, before, strict=True))


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize(("theta", "g"), [((5, 1), (5,)), ((5,), (1,)), ((1, 5), (5,))])
def test_a_gradient_of_another_shape_is_refused(name, theta, g):
    update, start = UPDATES[name]
    theta = torch.ones(theta)
    with pytest.raises(ValueError, match="its gradient or state is"):
        update(theta, torch.ones(g), start(theta))


@pytest.mark.parametrize("name", [name for name in UPDATES if name != "sgd"])
def test_the_state_of_another_tensor_is_refused(name):
    update, start = UPDATES[name]
    with pytest.raises(ValueError, match="its gradient or state is"):
        update(torch.ones(5), torch.ones(5), start(torch.ones(1)))
