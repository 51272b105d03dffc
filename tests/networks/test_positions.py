import math

import pytest
import torch

from unvanish.networks.positions import rotate, rotation, sinusoids

STEPS = torch.tensor([0, 1, 2, 1009])


def test_sinusoids_are_the_formula():
    expected = [[f(t / 10000 ** (2 * i / 10)) for i in range(5) for f in (math.sin, math.cos)] for t in STEPS.tolist()]
    found = sinusoids(STEPS, 10, torch.float64)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_a_turned_product_depends_on_the_distance_alone():
    torch.manual_seed(7)
    q, k = torch.randn(2, 6, dtype=torch.float64)

    def product(t, s):
        turns = [rotation(torch.tensor([step]), 6, torch.float64) for step in (t, s)]
        return rotate(q.view(1, 1, 1, 6), turns[0]).flatten() @ rotate(k.view(1, 1, 1, 6), turns[1]).flatten()

    assert product(3, 3).item() == pytest.approx((q @ k).item(), abs=1e-12)
    assert product(105, 101).item() == pytest.approx(product(4, 0).item(), abs=1e-12)
    assert abs(product(5, 0) - product(4, 0)) > 1e-3
    assert abs(product(0, 4) - product(4, 0)) > 1e-3


def test_a_turn_keeps_the_length():
    x = torch.arange(3 * 5 * 4 * 6, dtype=torch.float64).sin().view(3, 5, 4, 6)
    torch.testing.assert_close(rotate(x, rotation(STEPS, 6, torch.float64)).norm(dim=-1), x.norm(dim=-1))


def test_positions_stay_apart_where_bfloat16_cannot_count_them():
    steps = torch.tensor([256, 257])
    for table in (sinusoids(steps, 6, torch.bfloat16), *rotation(steps, 6, torch.bfloat16)):
        assert table.dtype == torch.bfloat16
        assert not torch.equal(table[0], table[1])
