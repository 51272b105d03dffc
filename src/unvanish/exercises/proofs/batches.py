"""Batches by counting, and their gradient's variance over all batches that there are."""

from collections.abc import Iterable
from itertools import combinations, product

import torch
from hypothesis import given
from hypothesis import strategies as st

from unvanish.exercises.proofs.compare import Function, drawn, few, holds, same, seeds

_counts = st.integers(1, 101)


@few
@given(samples=_counts, batch_size=_counts)
def batches_per_epoch(f: Function, samples: int, batch_size: int) -> None:
    """Counted; a last, smaller batch counts."""
    expected = len(range(0, samples, batch_size))
    same(f(samples, batch_size), expected, f"batches of {samples} samples by {batch_size}", "counting")


@few
@given(samples=_counts, batch_size=_counts, seed=seeds)
def batches(f: Function, samples: int, batch_size: int, seed: int) -> None:
    """Each index once, only the last batch smaller, in the generator's order."""
    epoch, again = (list(f(samples, batch_size, torch.Generator().manual_seed(seed))) for _ in range(2))
    indices = torch.cat(epoch)
    same(sorted(indices.tolist()), list(range(samples)), "the indices of an epoch", "counting")
    expected = [min(batch_size, samples - start) for start in range(0, samples, batch_size)]
    same([len(batch) for batch in epoch], expected, "the sizes of the batches", "counting")
    holds(torch.equal(indices, torch.cat(again)), "the same seed gives another order")
    other = torch.cat(list(f(101, 7, torch.Generator().manual_seed(seed))))
    holds(not torch.equal(other, torch.arange(101)), "the indices of an epoch are not shuffled")


@few
@given(samples=st.integers(1, 5), batch_size=st.integers(1, 4), seed=seeds)
def gradient_variance(f: Function, samples: int, batch_size: int, seed: int) -> None:
    """The mean over all batches that there are, with and without replacement."""
    (g,) = drawn(seed, (samples, 3))

    def variance(rows: Iterable[tuple[int, ...]]) -> float:
        return torch.stack([(g[list(row)].mean(0) - g.mean(0)).square().sum() for row in rows]).mean().item()

    sigma_squared = variance((index,) for index in range(samples))
    all_draws = variance(product(range(samples), repeat=batch_size))
    same(f(sigma_squared, batch_size), all_draws, "the variance with replacement", "the mean over all batches")
    if batch_size <= samples:
        without = variance(combinations(range(samples), batch_size))
        found = f(sigma_squared, batch_size, samples)
        same(found, without, "the variance without replacement", "the mean over all batches")
