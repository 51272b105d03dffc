import math

import pytest
import torch
from autograd_twin import octaves, root

from unvanish.gradients import measure
from unvanish.gradients.quantities.dead import LARGEST
from unvanish.gradients.quantities.noise import noise_scale


@pytest.mark.parametrize("exponent", [-40, -30, -20, -10, 0, 10, 30])
def test_norms_hold_from_the_smallest_to_the_largest_float32(exponent):
    tensor = torch.full((67, 61), 10.0**exponent)
    expected = root([tensor])
    found = [measure.norm(tensor), *measure.norms([tensor, tensor[:7]])]
    assert found == pytest.approx([expected, expected, root([tensor[:7]])], rel=1e-5, abs=0)


@pytest.mark.parametrize("size", [1, 511, 513, 65_537, 1_000_003])
def test_norms_of_long_tensors_keep_their_digits(size):
    torch.manual_seed(0)
    tensors = [torch.full((size,), 0.1), torch.randn(size), torch.randn(7, size)[:, ::7]]
    # The sum of equal squares is the worst case of float32: all of them are rounded to the same side.
    for norm, tensor, rel in zip(measure.norms(tensors), tensors, [2e-5, 1e-6, 1e-6], strict=True):
        assert norm == pytest.approx(root([tensor]), rel=rel)
        assert measure.norm(tensor) == pytest.approx(root([tensor]), rel=5e-7)


def test_the_norm_of_many_small_elements_beside_large_ones_keeps_its_digits():
    """As of positions beside a class token."""
    tensor = torch.full((1 << 16,), 2e-4)
    tensor[:64] = 0.1
    assert measure.norms([tensor])[0] == pytest.approx(math.sqrt(64 * 0.1**2 + (65536 - 64) * 2e-4**2), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_norms_of_other_types(dtype):
    torch.manual_seed(0)
    tensor = torch.randn(61, 67, dtype=dtype)
    expected = torch.linalg.vector_norm(tensor.to(torch.complex128)).item()
    assert measure.norm(tensor) == pytest.approx(expected, rel=1e-7)


def test_norms_of_nothing_and_of_what_is_not_a_number():
    found = measure.norms([torch.zeros(0, 3), torch.zeros(5), torch.tensor([1.0, math.nan]), torch.tensor([math.inf])])
    assert found == pytest.approx([0.0, 0.0, math.nan, math.inf], nan_ok=True)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e18])
def test_products_hold_where_their_factors_have_vanished(scale):
    torch.manual_seed(0)
    a, b = torch.randn(2, 661, 167)
    a, b = a * scale, (a + b) * scale
    (product,) = measure.products([a], [b])
    assert product == pytest.approx((a.double() * b.double()).sum().item(), rel=1e-5, abs=0)


def test_products_of_sparse_tensors_with_different_rows():
    a = torch.sparse_coo_tensor([[1, 5, 1]], torch.randn(3, 2), (7, 2), check_invariants=True)
    b = torch.sparse_coo_tensor([[5, 6]], torch.randn(2, 2), (7, 2), check_invariants=True)
    expected = (a.to_dense() * b.to_dense()).sum()
    for tensor in (b, b.to_dense()):
        assert measure.products([a], [tensor])[0] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (0.5, 1e-5), (-300.0, 0.01)])
def test_moments_keep_a_small_spread_about_a_large_mean(offset, spread):
    torch.manual_seed(0)
    activation = offset + spread * torch.randn(11, 13)
    mean, deviations = measure.moments(activation)
    expected = activation.double()
    assert mean == pytest.approx(expected.mean().item(), rel=1e-6, abs=1e-7)
    assert deviations / math.sqrt(143) == pytest.approx(expected.std(correction=0).item(), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_saturated_values_are_counted(dtype):
    tanh = torch.tensor([-1, -0.995, -0.98, 0, 0.98, 0.9951, 1, math.nan], dtype=dtype)
    sigmoid = torch.tensor([0, 0.0099, 0.0107, 0.5, 0.98, 0.9951, 1, math.nan], dtype=dtype)
    assert measure.saturated(tanh, "tanh") == 4
    assert measure.saturated(sigmoid, "sigmoid") == 4


def test_units_are_channels_or_features():
    images, features = torch.randn(2, 3, 5, 7), torch.randn(2, 5, 3)
    assert measure.largest_by_unit(images, 1).tolist() == images.amax((0, 2, 3)).tolist()
    assert measure.largest_by_unit(features, -1).tolist() == features.amax((0, 1)).tolist()
    assert measure.largest_by_unit(features[0, 0], -1).tolist() == features[0, 0].tolist()


def test_the_share_of_dead_units_of_layers_of_several_types():
    unknown, tiny = torch.full((3,), -math.inf), torch.tensor([1e-9, 0.0, math.nan, -math.inf, -1.0])
    found = LARGEST.finish([torch.tensor([0.0, 1.0], dtype=torch.float16), tiny, unknown])
    assert found == pytest.approx([1 / 2, 2 / 3, math.nan], nan_ok=True)


def test_octave_counts_equal_numpy_s():
    torch.manual_seed(0)
    values = torch.randn(101) * 10.0 ** torch.randint(-40, 38, (101,))
    edges = torch.tensor([0.0, -0.0, 1, -1, 2, 0.5, 2.0**-126, -(2.0**-149), 3e38, math.inf, -math.inf])
    tensor = torch.cat([values, edges])
    assert measure.octave_counts(tensor).tolist() == octaves(tensor)
    assert measure.octave_counts(tensor.double()[:13].view(13, 1)).tolist() == octaves(tensor[:13])
    assert measure.octave_counts(torch.tensor([math.nan, 1.0])).tolist()[255] == 1


def test_octave_counts_go_on_beyond_what_float32_can_count():
    counts = measure.octave_counts(torch.zeros(1).expand(2**24 + 3))
    assert counts[0] == 2**24 + 3


def test_octave_counts_of_a_sparse_tensor_are_those_of_the_dense_one():
    tensor = torch.sparse_coo_tensor([[1, 5, 1]], torch.randn(3, 2), (7, 2), check_invariants=True)
    assert measure.octave_counts(tensor).tolist() == octaves(tensor.to_dense())


@pytest.mark.slow
def test_the_noise_scale_finds_the_variance_and_the_mean_it_was_made_with():
    torch.manual_seed(0)
    mean = torch.full((29,), 0.3, dtype=torch.float64)
    small = mean + 2.0 * torch.randn(20_000, 7, 5, 29, dtype=torch.float64).mean(2)  # 7 batches of 5
    big = small.mean(1)
    found = noise_scale(small.square().sum(-1).mean().item(), big.square().sum(-1).mean().item(), 5, 35)
    assert found == pytest.approx((29 * 4.0, 29 * 0.09), rel=0.01)
