import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from unvanish.formulas.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    layer_norm,
    layer_norm_backward,
    running,
)

SETTINGS = settings(max_examples=25, deadline=None)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
EPSILONS = st.sampled_from([1e-5, 1e-2, 0.7])


def tensors(shape, low=-3.0, high=3.0):
    size = torch.Size(shape).numel()
    values = st.lists(st.floats(low, high), min_size=size, max_size=size)
    return values.map(lambda values: torch.tensor(values, dtype=torch.float64).view(shape))


@st.composite
def batches(draw, axes=1):
    """z and delta, (..., n) with ``axes`` axes before n, the first of at least 2; gamma and beta, (n,)."""
    shape = [draw(st.integers(2, 5)), *(draw(st.integers(1, 3)) for _ in range(axes - 1)), draw(st.integers(1, 5))]
    return [draw(tensors(axes)) for axes in (shape, shape, shape[-1:], shape[-1:])]


def autograd(function, delta, *inputs):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    return torch.autograd.grad(function(*leaves), leaves, delta)


@SETTINGS
@given(batches(), EPSILONS)
def test_gradients_of_a_batch_are_orthogonal_to_a_shift_and_but_for_epsilon_to_a_scale(drawn, epsilon):
    z, delta, gamma, _ = drawn
    z[:2] += torch.tensor([[5.0], [-5.0]])  # no column is constant
    zero = torch.zeros_like(gamma)
    centred, variance = z - z.mean(0), z.var(0, correction=0)
    dz, _, _ = batch_norm_backward(delta, z, gamma, 0.0)
    torch.testing.assert_close(dz.sum(0), zero, **CLOSE)
    torch.testing.assert_close((dz * centred).sum(0), zero, **CLOSE)
    dz, dgamma, _ = batch_norm_backward(delta, z, gamma, epsilon)
    torch.testing.assert_close(dz.sum(0), zero, **CLOSE)
    left = gamma * dgamma * epsilon / (variance + epsilon)
    torch.testing.assert_close((dz * centred).sum(0), left, **CLOSE)


@SETTINGS
@given(batches())
def test_without_epsilon_a_shift_and_a_scale_of_z_change_nothing(drawn):
    z, _, gamma, beta = drawn
    z[:2] += torch.tensor([[5.0], [-5.0]])
    found = batch_norm(3.7 * z + 0.9, gamma, beta, 0.0)
    expected = batch_norm(z, gamma, beta, 0.0)
    torch.testing.assert_close(found.value, expected.value, **CLOSE)
    torch.testing.assert_close(found.variance, 3.7**2 * expected.variance, **CLOSE)


def test_a_constant_column_becomes_beta_and_its_gradient_stays_finite():
    z = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0]], dtype=torch.float64)
    gamma, beta = torch.tensor([[2.0, 3.0], [-0.3, 0.7]], dtype=torch.float64)
    delta = torch.tensor([[1.0, 0.0], [-0.5, 0.0], [0.7, 0.0]], dtype=torch.float64)
    assert batch_norm(z, gamma, beta, 1e-5).value[:, 0].tolist() == pytest.approx([-0.3] * 3, abs=1e-10)
    dz, dgamma, dbeta = batch_norm_backward(delta, z, gamma, 1e-5)
    expected = 2.0 * (delta[:, 0] - 0.4) / 1e-5**0.5  # the variance's own gradient is 0 there
    torch.testing.assert_close(dz[:, 0], expected, **CLOSE)
    assert (dgamma[0].item(), dbeta[0].item()) == pytest.approx((0, 1.2), abs=1e-10)
    equal = torch.full((2, 1), 0.5)
    assert batch_norm(equal, torch.ones(1), torch.ones(1), 0.0).value.isnan().all()


@pytest.mark.parametrize("momentum", [0.1, 0.37])
def test_running_statistics_and_inference_are_torchs_over_three_batches(momentum):
    reference = nn.BatchNorm1d(5, eps=1e-3, momentum=momentum, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    gamma, beta = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    reference.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
    mean, variance = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    for size in (2, 3, 7):
        z = torch.randn(size, 5, generator=generator, dtype=torch.float64) * 3 + 1
        expected = reference(z)
        found = batch_norm(z, gamma, beta, 1e-3)
        mean, variance = running(mean, variance, found.mean, found.variance, size, momentum)
        torch.testing.assert_close(found.value, expected, **CLOSE)
        torch.testing.assert_close(mean, reference.running_mean, **CLOSE)
        torch.testing.assert_close(variance, reference.running_var, **CLOSE)
    single = z[:1]  # at inference one sample will do
    expected = reference.eval()(single)
    torch.testing.assert_close(batch_norm_inference(single, mean, variance, gamma, beta, 1e-3), expected, **CLOSE)


def test_the_defaults_are_torchs():
    z = torch.tensor([[1e-3, 2.0, 3.0], [2e-3, 5.0, 1.0]], dtype=torch.float64)  # at 1e-3 epsilon shows
    ones, zeros = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    reference = nn.BatchNorm1d(3, dtype=torch.float64)
    found = batch_norm(z, ones, zeros)
    torch.testing.assert_close(found.value, reference(z), **CLOSE)
    statistics = running(zeros, ones, found.mean, found.variance, 2)
    torch.testing.assert_close(statistics.mean, reference.running_mean, **CLOSE)
    torch.testing.assert_close(statistics.variance, reference.running_var, **CLOSE)
    torch.testing.assert_close(batch_norm_inference(z, *statistics, ones, zeros), reference.eval()(z), **CLOSE)
    (expected,) = autograd(reference.train(), z, z)
    torch.testing.assert_close(batch_norm_backward(z, z, ones)[0], expected, **CLOSE)

    z = 1e-3 * z
    reference = nn.LayerNorm(3, dtype=torch.float64)
    torch.testing.assert_close(layer_norm(z, ones, zeros), reference(z), **CLOSE)
    (expected,) = autograd(reference, z, z)
    torch.testing.assert_close(layer_norm_backward(z, z, ones)[0], expected, **CLOSE)


def test_layer_norm_takes_one_sample_without_a_batch():
    z, gamma, beta = torch.tensor([[1.0, 2.0, 6.0], [2.0, 3.0, 5.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(layer_norm(z, gamma, beta), F.layer_norm(z, (3,), gamma, beta), **CLOSE)
    _, dgamma, dbeta = layer_norm_backward(beta, z, gamma)
    assert dgamma.shape == dbeta.shape == (3,)


@SETTINGS
@given(batches(), EPSILONS)
def test_gradients_of_a_layer_are_orthogonal_to_a_shift_and_but_for_epsilon_to_a_scale(drawn, epsilon):
    z, delta, gamma, _ = drawn
    dz, _, _ = layer_norm_backward(delta, z, gamma, epsilon)
    torch.testing.assert_close(dz.sum(-1), torch.zeros(len(z), dtype=torch.float64), **CLOSE)
    centred, variance = z - z.mean(-1, keepdim=True), z.var(-1, correction=0)
    left = epsilon / (variance + epsilon) ** 1.5 * (delta * gamma * centred).sum(-1)
    torch.testing.assert_close((dz * centred).sum(-1), left, **CLOSE)


@SETTINGS
@given(batches(), EPSILONS)
def test_without_gamma_and_beta_batch_norm_is_layer_norm_of_the_transpose(drawn, epsilon):
    z, delta, _, _ = drawn
    ones, zeros = torch.ones(2, max(z.shape), dtype=torch.float64) * torch.tensor([[1.0], [0.0]])
    B, n = z.shape
    by_batch = batch_norm(z, ones[:n], zeros[:n], epsilon).value
    torch.testing.assert_close(by_batch, layer_norm(z.T, ones[:B], zeros[:B], epsilon).T, **CLOSE)
    by_batch = batch_norm_backward(delta, z, ones[:n], epsilon)[0]
    torch.testing.assert_close(by_batch, layer_norm_backward(delta.T, z.T, ones[:B], epsilon)[0].T, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_stays_and_arguments_are_left_as_they_were(dtype):
    z, gamma = torch.arange(10, dtype=dtype).view(2, 5), torch.ones(5, dtype=dtype)
    before = z.clone(), gamma.clone()
    normalized = batch_norm(z, gamma, gamma)
    results = [*normalized, *batch_norm_backward(z, z, gamma), *layer_norm_backward(z, z, gamma)]
    results += [layer_norm(z, gamma, gamma), batch_norm_inference(z, gamma, gamma, gamma, gamma)]
    results += running(gamma, gamma, normalized.mean, normalized.variance, 2)
    assert {result.dtype for result in results} == {dtype}
    assert torch.equal(z, before[0])
    assert torch.equal(gamma, before[1])


Z, ROW, COLUMN = torch.ones(3, 5), torch.ones(5), torch.ones(3, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_norm(Z[:1], ROW, ROW), "a batch of 1 has no variance"),
        (lambda: batch_norm_backward(Z[:1], Z[:1], ROW), "a batch of 1 has no variance"),
        (lambda: batch_norm(ROW, ROW, ROW), r"z has shape \(5,\): must be \(B, n\)"),
        (lambda: batch_norm(Z, COLUMN, ROW), r"gamma has shape \(3, 1\): must be \(5,\) to fit"),
        (lambda: batch_norm(Z, ROW, ROW[:1]), r"beta has shape \(1,\)"),
        (lambda: batch_norm_backward(COLUMN, Z, ROW), r"delta has shape \(3, 1\): must be \(3, 5\)"),
        (lambda: batch_norm_backward(Z, Z, COLUMN), r"gamma has shape \(3, 1\)"),
        (lambda: batch_norm_inference(Z, COLUMN, ROW, ROW, ROW), r"mean has shape \(3, 1\)"),
        (lambda: batch_norm_inference(Z, ROW, COLUMN, ROW, ROW), r"variance has shape \(3, 1\)"),
        (lambda: running(ROW, ROW, Z, ROW, 3), r"batch_mean has shape \(3, 5\)"),
        (lambda: layer_norm(Z, COLUMN, ROW), r"gamma has shape \(3, 1\)"),
        (lambda: layer_norm(Z, ROW, COLUMN), r"beta has shape \(3, 1\)"),
        (lambda: layer_norm_backward(COLUMN, Z, ROW), r"delta has shape \(3, 1\)"),
        (lambda: layer_norm_backward(Z, Z, COLUMN), r"gamma has shape \(3, 1\)"),
    ],
)
def test_shapes_that_would_broadcast_and_batches_of_one_are_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
