"""Variances of first weights, beside torch.nn.init."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unvanish.exercises.proofs.compare import Function, few, holds, same, seeds

_fans = st.integers(1, 97)


def _seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _variance_of(initialize: Function, fan_in: int, fan_out: int, **arguments: str) -> float:
    """By what ``initialize`` multiplies standard draws, squared: exact, no statistics."""
    standard = torch.randn(fan_out, fan_in, dtype=torch.float64, generator=_seeded())
    W: Tensor = initialize(torch.empty(fan_out, fan_in, dtype=torch.float64), generator=_seeded(), **arguments)
    return float((W / standard).square().mean())


@few
@given(fan_in=_fans, fan_out=_fans)
def xavier_variance(f: Function, fan_in: int, fan_out: int) -> None:
    """That of torch's xavier_normal_."""
    expected = _variance_of(nn.init.xavier_normal_, fan_in, fan_out)
    same(f(fan_in, fan_out), expected, f"Var W of {fan_in} inputs and {fan_out} outputs")


@few
@given(fan_in=_fans)
def he_variance(f: Function, fan_in: int) -> None:
    """That of torch's kaiming_normal_ for ReLU."""
    expected = _variance_of(nn.init.kaiming_normal_, fan_in, 3, nonlinearity="relu")
    same(f(fan_in), expected, f"Var W of {fan_in} inputs")


@few
@given(fan_in=_fans)
def lecun_variance(f: Function, fan_in: int) -> None:
    """That of torch's kaiming_normal_ for linear units."""
    expected = _variance_of(nn.init.kaiming_normal_, fan_in, 3, nonlinearity="linear")
    same(f(fan_in), expected, f"Var W of {fan_in} inputs")


@few
@given(variance=st.floats(0.01, 5))
def uniform_bound(f: Function, variance: float) -> None:
    """The edge r whose uniform distribution has the variance: the integral of x^2 / 2r is r^2 / 3."""
    r = f(variance)
    same(r, abs(r), "r", "the proof")
    same(r**2 / 3, variance, "the variance r^2 / 3")


@few
@given(seed=seeds)
def draw_normal(f: Function, seed: int) -> None:
    """A draw of that variance, from the generator."""
    W, again = f(101, 97, 0.04, _seeded(seed)), f(101, 97, 0.04, _seeded(seed))
    holds(isinstance(W, Tensor), "the result is no tensor")
    same(list(W.shape), [101, 97], "the shape of W", "the proof")
    same(W, again, "W of the same seed", "the first draw")
    generator = _seeded(seed)
    other = f(101, 97, 0.04, generator)
    holds(not torch.equal(other, f(101, 97, 0.04, generator)), "two draws of one generator are equal")
    # 9,797 squares: their mean has a relative standard error of sqrt(2 / 9797) = 0.0143.
    share = float(W.double().square().mean()) / 0.04
    holds(abs(share - 1) < 6 * math.sqrt(2 / W.numel()), f"Var W is {0.04 * share:.4f}, where 0.04 was asked for")
    holds(abs(float(W.double().mean())) < 6 * 0.2 / math.sqrt(W.numel()), "the mean of W is not 0")
