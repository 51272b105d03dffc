"""Laws on MNIST's pixels, from 0 to 1, at initialization and along a short training."""

from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from benchmarks.papers.figures import near, seeds
from benchmarks.papers.row import Figure, Row, Settings
from unvanish import MLP, Images
from unvanish.formulas.activations import tanh_derivative


def mnist(settings: Settings) -> tuple[Tensor, Tensor]:
    """The 60,000 training images (N, 1, 28, 28), as numbers from 0 to 1, and their labels (N,)."""
    Images("mnist", root=str(settings.root)).prepare_data()
    archive = datasets.MNIST(settings.root, train=True)
    return archive.data.unsqueeze(1) / 255, archive.targets


def glorot_jacobian(settings: Settings) -> list[Figure]:
    """The mean singular value of dh_(l+1)/dh_l in five tanh layers of 1000, over l and two images."""
    x = mnist(settings)[0][:2]
    exact = {"xavier_uniform": 0.8, "default": 0.490}
    tolerance = {"xavier_uniform": 0.03, "default": 0.01}
    ours: dict[str, list[float]] = {name: [] for name in exact}
    for _ in seeds(settings):
        for name, found in ours.items():
            found.append(_mean_singular_value(MLP((1, 28, 28), 10, 1000, 6, "tanh", name), x))
    what = {"xavier_uniform": "normalized", "default": "standard"}
    return [near(what[name], exact[name], found, tolerance[name]) for name, found in ours.items()]


@torch.no_grad()
def _mean_singular_value(model: MLP, x: Tensor) -> float:
    means = []
    for depth in range(1, len(model.hidden)):
        h = model.hidden[:depth](x.flatten(1))
        weight, bias = (model.get_parameter(f"hidden.{depth}.linear.{name}") for name in ("weight", "bias"))
        for slope in tanh_derivative(F.linear(h, weight, bias)):
            jacobian = slope.unsqueeze(1) * weight  # diag(1 - tanh(z)^2) W
            squares = torch.linalg.eigvalsh((jacobian @ jacobian.T).double())  # twice as fast as svdvals
            means.append(float(squares.clamp(min=0).sqrt().mean()))
    return fmean(means)


#: |mean dL/db| of each hidden layer, the first one first: Nielsen's data files.
NIELSEN = ((0.0657, 0.3092), (0.0118, 0.0600, 0.2831), (0.00298, 0.01708, 0.06954, 0.28514))


def nielsen(settings: Settings) -> list[Figure]:
    """Sigmoid layers of 30, at initialization: his one draw among 40."""
    x, y = (part[:1000] for part in mnist(settings))
    figures = []
    for printed in NIELSEN:
        torch.manual_seed(0)
        draws = torch.stack([_bias_gradients(x, y, len(printed)) for _ in range(40)])
        for depth, (value, found) in enumerate(zip(printed, draws.unbind(1), strict=True), start=1):
            low, high = found.quantile(0.05), found.quantile(0.95)
            what = f"layer {depth} of {len(printed)}"
            band = f"5-95 % band has {value:g}"
            figures.append(Figure(what, band, found.tolist(), bool(low <= value <= high)))
    return figures


def _bias_gradients(x: Tensor, y: Tensor, depth: int) -> Tensor:
    """|dL/db| of the hidden layers of a new network (depth,); L is the mean of ten sigmoids' cross-entropies."""
    model = MLP((1, 28, 28), 10, [30] * depth, activation="sigmoid", initialization="mean_field(1, 1)")
    loss = F.binary_cross_entropy_with_logits(model(x), F.one_hot(y, 10).float(), reduction="sum") / len(x)
    gradients = torch.autograd.grad(loss, [model.get_parameter(f"hidden.{i}.linear.bias") for i in range(depth)])
    return torch.stack([gradient.norm() for gradient in gradients])


ROWS = [
    Row(
        "glorot_jacobian",
        "mean singular value of a layer's Jacobian in a 5x1000 tanh network on MNIST",
        "Glorot and Bengio 2010, 4.2.2",
        "read",
        glorot_jacobian,
        "The paper says about 0.8 and 0.5; 8 / (3 pi) sqrt(n Var W) = 0.490 is what units near 0 give for the second.",
        is_quick=True,
    ),
    Row(
        "nielsen",
        "norms of the bias gradients by layer of [784, 30, ..., 30, 10] sigmoid networks",
        "Nielsen, Neural Networks and Deep Learning, chapter 5, his data files",
        "read",
        nielsen,
        "He printed one draw. Ours are 40 draws, whatever --seeds says, and his is to lie inside of their 5-95 % band. "
        "The bands are wide: networks without biases would pass as well.",
        is_quick=True,
    ),
]
