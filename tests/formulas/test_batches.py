from itertools import product

import pytest
import torch
from hypothesis import settings

from unvanish.formulas.batches import batches, batches_per_epoch, gradient_variance

draws = settings(max_examples=25, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("samples", "batch_size", "expected"), [(80, 8, 10), (81, 8, 11), (79, 8, 10), (7, 11, 1)])
def test_batches_per_epoch(samples, batch_size, expected):
    assert batches_per_epoch(samples, batch_size) == expected


def test_the_order_is_the_generators():
    generator = seeded()
    first, second, again = batches(101, 7, generator), batches(101, 7, generator), batches(101, 7, seeded())
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), torch.cat(again))


def test_every_order_is_as_likely():
    generator, draws = seeded(), 2000
    orders = [tuple(torch.cat(batches(3, 2, generator)).tolist()) for _ in range(draws)]
    for order in product(range(3), repeat=3):
        p = 1 / 6 if len(set(order)) == 3 else 0
        assert abs(orders.count(order) - p * draws) <= 5 * (draws * p * (1 - p)) ** 0.5


def test_the_variance_of_all_samples_and_of_one():
    assert gradient_variance(7.0, 5, samples=5) == 0
    assert gradient_variance(0.0, 1, samples=1) == 0
    assert gradient_variance(7.0, 1, samples=5) == gradient_variance(7.0, 1) == 7


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3), (3, -1)])
def test_sizes_below_one_are_refused(sizes):
    for refused in (batches_per_epoch, lambda *sizes: batches(*sizes, seeded())):
        with pytest.raises(ValueError, match="must be at least 1"):
            refused(*sizes)
    with pytest.raises(ValueError, match="must be at least 1"):
        gradient_variance(1.0, batch_size=sizes[1], samples=sizes[0])


def test_more_without_replacement_than_there_are_is_refused():
    with pytest.raises(ValueError, match="at most samples, 5"):
        gradient_variance(1.0, 7, samples=5)
    with pytest.raises(ValueError, match="batch_size is 0"):
        gradient_variance(1.0, 0)
