"""Ill networks of which a remedy is known: does ``diagnose(..., steps=N)`` find one that makes them learn?

The remedy is chosen by short trainings. It is then held against the same choice made at random, and against the first
remedy that a finding names without any training: from other weights, on other batches, for twice as many steps.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from unvanish.gradients.judge.diagnosis import planned, table
from unvanish.gradients.judge.remedies import REMEDIES
from unvanish.gradients.judge.trials import Trial, attempt, trained, try_remedies

STEPS, LONGER, BATCH = 200, 400, 64


class Case(NamedTuple):
    """A network that does not learn.

    Args:
        build: The network, from torch's random numbers.
        data: x and y.
        loss: Of its output and y.
        optimizer: Of parameters.
    """

    build: Callable[[], nn.Module]
    data: tuple[torch.Tensor, torch.Tensor]
    loss: Callable
    optimizer: Callable


def digits(scale: float = 1 / 16, shift: float = 0.0):
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) * scale + shift, torch.tensor(y)


def standard_digits():
    x, y = digits()
    return (x - x.mean()) / x.std(), y


def surface(mean: float = 0.0, std: float = 1.0):
    """A smooth function of four numbers."""
    x = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    f = (2 * x[:, 0]).sin() + x[:, 1] * x[:, 2] + x[:, 3] ** 2
    return x, mean + std * (f - f.mean()) / f.std()


def first_sign(length: int):
    """The sign of what a sequence begins with."""
    x = torch.randn(2000, length, 4, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0, 0] > 0).long()


def xor():
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    return x.repeat(32, 1), torch.tensor([[0.0], [1], [1], [0]]).repeat(32, 1)


def mlp(sizes, activation, *end):
    layers = [part for a, b in pairwise(sizes[:-1]) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]), *end)


def drawn(model, std):
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, std)
    return model


def silent(model):
    nn.init.constant_(model[-2].bias, -2.0)
    return model


class Softened(nn.Module):
    """Its softmax is a function, which nobody can take out."""

    def __init__(self):
        super().__init__()
        self.net = mlp([64, 64, 64, 10], nn.ReLU)

    def forward(self, x):
        return self.net(x).softmax(1)


class Loop(nn.Module):
    """A hand-written recurrent network without an activation."""

    def __init__(self, scale):
        super().__init__()
        self.step, self.leave = nn.Linear(4 + 32, 32), nn.Linear(32, 2)
        with torch.no_grad():
            self.step.weight[:, 4:] = scale * nn.init.orthogonal_(torch.empty(32, 32))

    def forward(self, x):
        h = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = self.step(torch.cat([x[:, t], h], 1))
        return self.leave(h)


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.leave = nn.RNN(4, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, x):
        return self.leave(self.cell(x)[0][:, -1])


class Rows(nn.Module):
    """A post-LN Transformer on the rows of an image."""

    def __init__(self, depth):
        super().__init__()
        self.embed, self.place = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 32) * 0.02)
        block = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.blocks, self.leave = nn.TransformerEncoder(block, depth, enable_nested_tensor=False), nn.Linear(32, 10)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x):
        return self.leave(self.blocks(self.embed(x.view(-1, 8, 8)) + self.place).mean(1))


def sgd(rate):
    return lambda parameters: torch.optim.SGD(parameters, rate)


def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, rate)


def clipping(rate, bound):
    """SGD that clips the gradient itself."""

    def make(parameters):
        optimizer = torch.optim.SGD(parameters, rate)

        def clip(*_):
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], bound)

        optimizer.register_step_pre_hook(clip)
        return optimizer

    return make


def squared(output, y):
    return (output.flatten() - y).square().mean()


def cases() -> dict[str, Case]:
    d = standard_digits()
    ce = F.cross_entropy
    return {
        "softmax twice": Case(lambda: mlp([64, 64, 64, 10], nn.ReLU, nn.Softmax(1)), d, ce, sgd(0.05)),
        "softmax twice, a function": Case(Softened, d, ce, sgd(0.05)),
        "ReLU on the output": Case(lambda: silent(mlp([4, 32, 1], nn.Tanh, nn.ReLU())), surface(), squared, adam(3e-3)),
        "sigmoid on the output": Case(lambda: mlp([4, 32, 1], nn.Tanh, nn.Sigmoid()), surface(3), squared, adam(1e-2)),
        "pixels 0 to 255": Case(lambda: mlp([64, 128, 128, 10], nn.ReLU), digits(255 / 16), ce, sgd(0.05)),
        "pixels far from 0": Case(lambda: mlp([64, 64, 64, 10], nn.Tanh), digits(1 / 16, 100.0), ce, sgd(0.05)),
        "targets near -2700": Case(lambda: mlp([4, 32, 1], nn.Tanh), surface(-2700, 100), squared, adam(5e-2)),
        "(B, 1) with (B,)": Case(
            lambda: mlp([4, 32, 1], nn.Tanh), surface(), lambda z, y: (z - y).square().mean(), adam(1e-2)
        ),
        "10 sigmoid layers": Case(lambda: mlp([64] * 10 + [10], nn.Sigmoid), d, ce, adam(1e-3)),
        "20 ReLU layers": Case(lambda: mlp([64] * 20 + [10], nn.ReLU), d, ce, sgd(0.05)),
        "N(0, 1) weights": Case(lambda: drawn(mlp([64] * 5 + [10], nn.Tanh), 1.0), d, ce, sgd(0.05)),
        "N(0, 0.01^2) weights": Case(lambda: drawn(mlp([64] * 5 + [10], nn.ReLU), 0.01), d, ce, sgd(0.05)),
        "rate too high": Case(lambda: mlp([64, 64, 64, 10], nn.ReLU), d, ce, adam(0.3)),
        "rate too low": Case(lambda: mlp([64, 64, 64, 10], nn.ReLU), d, ce, adam(3e-6)),
        "clipped at 0.01": Case(lambda: mlp([64, 64, 64, 10], nn.ReLU), d, ce, clipping(0.05, 0.01)),
        "exploding in time": Case(lambda: Loop(1.3), first_sign(40), ce, sgd(0.05)),
        "vanishing in time": Case(Reads, first_sign(30), ce, adam(3e-3)),
        "12 post-LN blocks": Case(lambda: Rows(12), d, ce, adam(3e-3)),
        "XOR of two ReLUs": Case(
            lambda: mlp([2, 2, 1], nn.ReLU, nn.Sigmoid()), xor(), F.binary_cross_entropy, adam(0.01)
        ),
    }


def plan_of(case: Case, steps: int, seed: int):
    torch.manual_seed(seed)
    model = case.build()
    x, y = case.data
    draw = torch.Generator().manual_seed(seed)
    rows = [torch.randint(len(y), (BATCH,), generator=draw) for _ in range(steps)]
    return planned(model, [(x[i], y[i]) for i in rows], case.loss, steps, case.optimizer)


def told(trial: Trial | None) -> str:
    return "-" if trial is None else f"{trial.loss:.3g}{' *' if trial.learns else ''}"


def judge(name: str, case: Case) -> tuple[tuple[str, ...], list[float]]:
    """A row, and whether the chosen, the random and the first named remedy, and none, make it learn."""
    start = time.perf_counter()
    found, plan = plan_of(case, STEPS, 0)
    trials = try_remedies(plan, found.verdict.findings)
    seconds = time.perf_counter() - start
    _, plan = plan_of(case, LONGER, 1)
    again = {}
    for trial in trials.tried:
        remedy = next(remedy for remedy in REMEDIES if remedy.name == trial.remedy)
        try:
            again[trial.remedy] = attempt(plan, remedy)
        except Exception as error:
            print(f"{name}: {trial.remedy}: {error}")
    unchanged = trained(plan, "no change", 0)
    chosen = again.get(trials.best.remedy) if trials.best else unchanged
    words = [
        words for finding in (*found.verdict.findings, *trials.unchanged.verdict.findings) for words in finding.remedies
    ]
    first = next((again[r.name] for w in words for r in REMEDIES if r.is_meant(w) and r.name in again), unchanged)
    losses = [trial.loss for trial in again.values() if trial.loss == trial.loss and abs(trial.loss) < float("inf")]
    row = (
        name,
        trials.best.remedy if trials.best else "none helps",
        told(unchanged),
        told(chosen),
        f"{fmean(losses):.3g} ({len(losses)} of {len(again)})" if losses else "-",
        f"{told(first)}  {first.remedy}",
        f"{seconds:.0f}",
    )
    share = fmean(trial.learns for trial in again.values()) if again else 0.0
    return row, [float(bool(chosen and chosen.learns)), share, float(first.learns), float(unchanged.learns)]


def main() -> None:
    torch.set_num_threads(1)
    rows, cured = [], []
    for name, case in cases().items():
        row, learns = judge(name, case)
        print(*row, sep=" | ", flush=True)
        rows.append(row)
        cured.append(learns)
    head = ("network", f"chosen by {STEPS} steps", "no change", "chosen", "at random", "first named", "seconds")
    print("\n" + table(head, rows))
    print(
        f"\nlosses after {LONGER} steps from other weights on other batches; * learns: 50 % below a constant "
        "prediction's"
    )
    for words, sums in zip(
        ("the chosen remedy", "one tried, at random", "the first that is named", "no change"),
        zip(*cured, strict=True),
        strict=True,
    ):
        print(f"{words}: {sum(sums):.1f} of {len(cured)} learn")


if __name__ == "__main__":
    main()
