"""The gradient noise scale along a short training."""

from collections.abc import Iterator
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.papers.figures import near_factor
from benchmarks.papers.images import mnist
from benchmarks.papers.row import Figure, Row, Settings
from unvanish import MLP, GradientRecorder
from unvanish.formulas.batches import batches

SMALL, BIG = 64, 1024
#: Steps of the training, and big batches of each estimate: those of |G|^2 at step 300 spread by nine tenths of it, so
#: that three estimates have a standard error of 1.1 %.
STEPS = {0: 60, 30: 60, 300: 2000}


def noise_scale(settings: Settings) -> list[Figure]:
    """tr(Sigma) / |G|^2 of softmax regression, from gradients of two sizes of batch, beside its exact value."""
    x, y = mnist(settings)
    model = MLP((1, 28, 28), 10, [], initialization="normal(0)")
    model.output.bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    figures = []
    for step, rows in enumerate(_epochs(len(x))):
        if step in STEPS:
            ours = [_estimate(model, x, y, seed, STEPS[step]) for seed in range(settings.seeds)]
            figures.append(near_factor(f"step {step}", _exact(model, x, y), ours, 0.03))
        if step == max(STEPS):
            break
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x[rows]), y[rows]))
        optimizer.step()
    return figures


def _epochs(samples: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from batches(samples, 256, generator)


@torch.no_grad()
def _exact(model: MLP, x: Tensor, y: Tensor) -> float:
    """Of all images: a sample's gradient is (p - y) x^T, so its square is |p - y|^2 |x|^2."""
    x = x.flatten(1).double()
    error = model(x.float()).double().softmax(1) - F.one_hot(y, 10)
    signal = (error.T @ x / len(x)).square().sum()
    squares = error.square().sum(1) * x.square().sum(1)
    return float((squares.mean() - signal) / signal)


def _estimate(model: MLP, x: Tensor, y: Tensor, seed: int, count: int) -> float:
    """From ``count`` big batches, drawn with replacement, each of which is the mean of its small ones."""
    generator = torch.Generator().manual_seed(seed)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(count):
            model.zero_grad()
            for rows in torch.split(torch.randint(len(x), (BIG,), generator=generator), SMALL):
                torch.autograd.backward(F.cross_entropy(model(x[rows]), y[rows]) * SMALL / BIG)
            recorder.before_step(step, batch_size=SMALL)
        totals = [record.totals for record in recorder.flush()]
    model.zero_grad()
    return fmean(t["noise_variance"] for t in totals) / fmean(t["noise_signal"] for t in totals)


ROWS = [
    Row(
        "noise_scale",
        "gradient noise scale tr(Sigma) / |G|^2 by the two-batch estimator, softmax regression on MNIST",
        "McCandlish et al. 2018, A.1",
        "second hand",
        noise_scale,
        "The exact values are those of all 60,000 images, with the weights that each step has; from step 1 on these "
        "depend on the order of the batches.",
    ),
]
