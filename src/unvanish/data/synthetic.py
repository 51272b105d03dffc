"""Sequences drawn at random, whose answer needs a long memory."""

from collections.abc import Callable
from functools import cached_property
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from unvanish.data.loading import Description, Loading, Splits
from unvanish.data.module import InMemoryData
from unvanish.names import lookup

# The copy problem of Arjovsky et al. (2016): ten of eight symbols, a blank, and the mark after which they are recalled.
SYMBOLS, BLANK, MARK, RECALLED = 8, 8, 9, 10

Drawn = tuple[Tensor, Tensor]


def _adding(rng: np.random.Generator, samples: int, length: int) -> Drawn:
    half = length // 2
    x = np.zeros((samples, length, 2), dtype=np.float32)
    x[:, :, 0] = rng.random((samples, length), dtype=np.float32)
    rows = np.arange(samples)
    first, second = rng.integers(half, size=samples), rng.integers(half, length, size=samples)
    x[rows, first, 1] = x[rows, second, 1] = 1
    y = x[rows, first, 0] + x[rows, second, 0]
    return torch.from_numpy(x), torch.from_numpy(y).unsqueeze(1)


def _copy(rng: np.random.Generator, samples: int, length: int) -> Drawn:
    symbols = torch.from_numpy(rng.integers(SYMBOLS, size=(samples, RECALLED)))
    x = torch.full((samples, length + 2 * RECALLED), BLANK)
    y = x.clone()
    x[:, :RECALLED] = y[:, -RECALLED:] = symbols
    x[:, length + RECALLED - 1] = MARK
    return x, y


def _parity(rng: np.random.Generator, samples: int, length: int) -> Drawn:
    bits = torch.from_numpy(rng.integers(2, size=(samples, length), dtype=np.int8))
    return bits.unsqueeze(2).float(), (bits.sum(dim=1) % 2).float()


def _xor(rng: np.random.Generator, samples: int, length: int) -> Drawn:
    x = torch.from_numpy(rng.random((samples, length), dtype=np.float32))
    x[:, :2] = x[:, :2].round()
    return x.unsqueeze(2), (x[:, 0] != x[:, 1]).float()


class _Problem(NamedTuple):
    """How sequences are drawn, the shortest length, and what the networks must know."""

    draw: Callable[[np.random.Generator, int, int], Drawn]
    shortest: int
    describe: Callable[[int], Description]


_PROBLEMS = {
    "adding": _Problem(_adding, 2, lambda length: Description("regression", (length, 2), 1)),
    "copy": _Problem(
        _copy,
        1,
        lambda length: Description("next_token", (length + 2 * RECALLED,), MARK + 1, vocabulary_size=MARK + 1),
    ),
    "parity": _Problem(_parity, 1, lambda length: Description("binary", (length, 1), 1, ["even", "odd"])),
    "xor": _Problem(_xor, 2, lambda length: Description("binary", (length, 1), 1, ["equal", "different"])),
}


@final
class SyntheticSequence(InMemoryData):
    """Sequences whose answer depends on steps that are far apart; T is ``length``.

    - adding: the sum of two of the T numbers, drawn from [0, 1) and marked by a 1, one in each half (Hochreiter and
      Schmidhuber 1997, as drawn by Arjovsky et al. 2016). x is (B, T, 2), y (B, 1) and not standardised: to answer 1
      always has an expected squared error of 1/6, the baseline ``rmse_constant``.
    - copy: ten tokens of 0 to 7 come first, then T - 1 blanks (8), a mark (9), and ten blanks; the answer is T + 10
      blanks and the ten tokens (Arjovsky et al. 2016). x and y are (B, T + 20). Without memory the loss is at best
      10 ln 8 / (T + 20), the baseline ``perplexity_memoryless`` its exponential; blanks alone cost nothing.
    - parity: whether the number of ones among T bits is odd. x is (B, T, 1), y (B,).
    - xor: whether the first two steps, bits, differ; all others are noise from [0, 1). x is (B, T, 1), y (B,).

    The baseline ``accuracy_constant`` of the last two is the share of the commoner answer.

    Args:
        problem: adding, copy, parity or xor.
        length: T.
        samples: Sequences to train on; the default is one epoch of 2,500 steps.
        validation_samples: Sequences to validate on.
        test_samples: Sequences to test on.
        loading: How it is split and batched.

    Raises:
        ValueError: The problem is unknown, or another argument is out of its range.
    """

    def __init__(
        self,
        problem: Literal["adding", "copy", "parity", "xor"] = "adding",
        length: int = 100,
        samples: int = 125_000,
        validation_samples: int = 2_000,
        test_samples: int = 2_000,
        loading: Loading = Loading(batch_size=50),
    ) -> None:
        self.problem = lookup("problem", problem, _PROBLEMS)
        counts = {"samples": samples, "validation_samples": validation_samples, "test_samples": test_samples}
        least = {"length": self.problem.shortest} | dict.fromkeys(counts, 2)  # R2 needs two
        for name, value in ({"length": length} | counts).items():
            if value < least[name]:
                raise ValueError(f"{name} is {value}; it must be at least {least[name]}")
        super().__init__(loading, unused=("validation_share", "test_share"))
        self.length = length
        self.counts = list(counts.values())

    @property
    def description(self) -> Description:
        """Known without drawing anything."""
        return self.problem.describe(self.length)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """What an answer without memory scores on ``val`` and ``test``, under the names in the class's description."""
        return {"val": self._baseline(self.splits.validation[1]), "test": self._baseline(self.splits.test[1])}

    def _baseline(self, y: Tensor) -> dict[str, float]:
        if self.task == "regression":
            return {"rmse_constant": (y.double() - 1).square().mean().sqrt().item()}
        if self.task == "next_token":
            return {"perplexity_memoryless": SYMBOLS ** (RECALLED / y.shape[1])}
        ones = y.double().mean().item()
        return {"accuracy_constant": max(ones, 1 - ones)}

    def read(self) -> Splits:
        """Draw the sequences."""
        train, validation, test = (
            self.problem.draw(np.random.default_rng((self.loading.split_seed, part)), count, self.length)
            for part, count in enumerate(self.counts)
        )
        return Splits(train, validation, test)
