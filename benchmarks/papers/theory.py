"""Laws of wide multilayer perceptrons at initialization."""

from statistics import geometric_mean, variance

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.papers.figures import below, deltas, factor, near, near_factor, seeds
from benchmarks.papers.row import Figure, Row, Settings
from unvanish import MLP
from unvanish.gradients.theory import batchnorm_explosion, mean_field
from unvanish.networks.initialization import initialize


def he_factor(settings: Settings) -> list[Figure]:
    """30 ReLU layers of 512: |delta| per layer, a geometric mean over draws."""
    width, depth, draws = 512, 30, 4
    exact = {"he_normal": 1.0, "xavier_normal": 0.5**0.5, "default": 6**-0.5}
    ours: dict[str, list[float]] = {name: [] for name in exact}
    for _ in seeds(settings):
        for name, found in ours.items():
            factors = []
            for _ in range(draws):
                model = MLP((width,), width, width, depth, initialization=name).double()
                norms = deltas(model, torch.randn(64, width, dtype=torch.float64))
                factors.append(factor(norms, 5, depth - 6))
            found.append(geometric_mean(factors))
    return [near(name, exact[name], found, 0.01) for name, found in ours.items()]


def bn_explosion(settings: Settings) -> list[Figure]:
    """Linear, BatchNorm, ReLU, 30 times, of 1000 units: the factor of the squared gradient, by size of the batch."""
    width, depth, trained_with = 1000, 30, 64
    ours: dict[int, list[float]] = {size: [] for size in (8, 16, 32, 64, 256)}
    trained: dict[int, list[float]] = {1: [], 10: []}
    for _ in seeds(settings):
        model = MLP((width,), width, width, depth + 1, initialization="he_normal", normalization="batch")
        for size, found in ours.items():
            found.append(_square_factor(model, torch.randn(size, width)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(1, 1 + max(trained)):
            optimizer.zero_grad()
            x, y = torch.randn(trained_with, width), torch.randint(width, (trained_with,))
            torch.autograd.backward(F.cross_entropy(model(x), y))
            optimizer.step()
            if step in trained:
                trained[step].append(_square_factor(model, torch.randn(trained_with, width)))
    law = {size: batchnorm_explosion(size) for size in ours}
    return [
        *(near_factor(f"batch of {size}", law[size], found, 0.015) for size, found in ours.items()),
        below(
            f"batch of {trained_with}, after 1 step of SGD", 0.95 * law[trained_with], trained[1], ", 5 % below the law"
        ),
        below(f"batch of {trained_with}, after 10 steps", 1, trained[10]),
    ]


def _square_factor(model: MLP, x: Tensor) -> float:
    """Of |delta|^2 per layer, from layer 24 back to layer 4."""
    return factor(deltas(model, x), 4, 24) ** 2


def edge_of_chaos(settings: Settings) -> list[Figure]:
    """40 tanh layers of 1000, started at the variance q* that they keep: the factor of the squared gradient."""
    width, depth, sigma_b2 = 1000, 40, 0.05
    ours: dict[float, list[float]] = {sigma_w2: [] for sigma_w2 in (1.0, 1.5, 1.76095, 2.5, 4.0)}
    exact = {sigma_w2: mean_field("tanh", sigma_w2, sigma_b2) for sigma_w2 in ours}
    for _ in seeds(settings):
        for sigma_w2, found in ours.items():
            model = MLP((width,), width, width, depth + 1, "tanh", f"mean_field({sigma_w2}, {sigma_b2})")
            x = torch.randn(32, width) * ((exact[sigma_w2].q - sigma_b2) / sigma_w2) ** 0.5
            found.append(factor(deltas(model, x), 9, 34) ** 2)
    return [near_factor(f"sigma_w^2 = {key:g}", exact[key].chi, found, 0.01) for key, found in ours.items()]


def width_noise(settings: Settings) -> list[Figure]:
    """L ReLU layers of n units: the variance of ln |delta_1|^2 over networks."""
    networks = {(64, 8): 2000, (64, 16): 1000, (128, 16): 600, (256, 64): 250}
    ours: dict[tuple[int, int], list[float]] = {size: [] for size in networks}
    for _ in seeds(settings):
        for (width, depth), found in ours.items():
            model = MLP((width,), 1, width, depth + 1)
            found.append(variance(_log_square(model, width) for _ in range(networks[width, depth])))
    return [near_factor(f"{n} units, {L} layers", 5 * L / n, found, 0.1) for (n, L), found in ours.items()]


def _log_square(model: MLP, width: int) -> float:
    """ln |delta_1|^2 of new weights. Of one input and one output, delta_1 is dL/db of the first layer."""
    initialize(model, "he_normal", "relu")
    (delta,) = torch.autograd.grad(model(torch.randn(1, width)).sum(), [model.get_parameter("hidden.0.linear.bias")])
    return float(delta.double().square().sum().log())


ROWS = [
    Row(
        "he_factor",
        "factor of the gradient per ReLU layer: sqrt(n Var W / 2)",
        "He et al. 2015, 2.2",
        "second hand",
        he_factor,
        is_quick=True,
    ),
    Row(
        "bn_explosion",
        "BatchNorm and ReLU without residuals: factor of the squared gradient per layer, by batch size",
        "Yang et al. 2019, Theorem 8",
        "read",
        bn_explosion,
        "The law is about initialization: ten steps of SGD with a learning rate of 0.1, on noise, turn the explosion "
        "into relative vanishing; with 0.001 it stays. It is of the square; the norm grows by its root. An infinite "
        "batch would give pi / (pi - 1) = 1.4669.",
        is_quick=True,
    ),
    Row(
        "edge_of_chaos",
        "tanh, bias variance 0.05: factor chi_1 of the squared gradient per layer",
        "Poole et al. 2016, Schoenholz et al. 2017",
        "code read",
        edge_of_chaos,
        is_quick=True,
    ),
    Row(
        "width_noise",
        "ln of the squared gradient of a finite ReLU network is normal with variance 5 L / n",
        "Hanin and Nica 2018",
        "second hand",
        width_noise,
        "Of that only the variance is measured. The law is the first term in 1/n. Of 20,000 networks of 64 units and 8 "
        "layers the variance is 1.04 times the law's, of 10,000 with 16 layers 1.10 times, of 4,000 of 128 units and "
        "16 layers 1.05 times.",
    ),
]
