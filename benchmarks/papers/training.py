"""Rows that train: each runs recipes through ``unvanish compare``, and judges what that has kept."""

import csv
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from benchmarks.papers.figures import above, below, deltas, near, seeds
from benchmarks.papers.images import mnist
from benchmarks.papers.row import Figure, Row, Settings
from unvanish import CNN, MLP
from unvanish.command.checkpoints import LAST
from unvanish.command.main import main
from unvanish.gradients.theory import mean_field


class Run(NamedTuple):
    """A training run.

    Args:
        folder: Where it is kept.
        test: The task's metric on the test split; NaN where there is none.
        curve: The metrics at each validation.
    """

    folder: Path
    test: float
    curve: list[dict[str, float]]


def compared(settings: Settings, recipe: str, *overrides: str) -> dict[str, list[Run]]:
    """Train the variants of a comparison, or a recipe: the runs of each, a seed each.

    Raises:
        RuntimeError: A run has failed, or could not begin.
    """
    out = settings.out / recipe.rpartition("/")[2]
    options = [f"--seeds={settings.seeds}", f"--jobs={settings.jobs}", f"--out={out}", *overrides]
    with redirect_stdout(sys.stderr):  # the table is printed alone
        code = main(["compare", recipe, *options])
    if code == 2:
        raise RuntimeError(f"unvanish compare {recipe} has refused its input")
    variants = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["variants"]
    for run in (run for variant in variants for run in variant["runs"]):
        if run["error"]:
            raise RuntimeError(f"{run['variant']}, seed {run['seed']}: {run['error']}")
    return {
        variant["variant"]: [
            Run(
                out / variant["variant"] / f"seed{run['seed']}",
                float(run["test"]),  # "nan" is one
                [{key: float(value) for key, value in point.items()} for point in run["curve"]],
            )
            for run in variant["runs"]
        ]
        for variant in variants
    }


def on_mnist(settings: Settings, recipe: str) -> dict[str, list[Run]]:
    """The same, of recipes that read MNIST."""
    return compared(settings, recipe, f"--data.root={settings.root}")


def percent(runs: Sequence[Run]) -> list[float]:
    """Test accuracies."""
    return [100 * run.test for run in runs]


#: An accuracy in percent that no constant prediction reaches: 11.35 % of MNIST's test images are ones.
CHANCE = 12


def trainable_depth(settings: Settings) -> list[Figure]:
    """60 tanh layers by the variance of their weights: do they train where theory has 6 xi above 60?"""
    figures = []
    for name, runs in on_mnist(settings, "papers/trainable_depth").items():
        sigma_w2 = float(name.removeprefix("sigma_w2_"))
        reach = 6 * mean_field("tanh", sigma_w2, 0.05).xi
        what = f"sigma_w^2 = {sigma_w2:g}, test accuracy in %"
        if reach > 60:
            figures.append(above(what, 85, percent(runs), f", for 6 xi = {reach:.3g} > 60"))
        else:
            figures.append(below(what, CHANCE, percent(runs), f", for 6 xi = {reach:.3g} < 60"))
    return figures


def he_30_layers(settings: Settings) -> list[Figure]:
    """30 ReLU layers by their initialization; twice as many seeds, because Xavier's end depends on them."""
    runs = on_mnist(settings._replace(seeds=2 * settings.seeds), "papers/he_30_layers")
    halfway = [100 * next(p["val/accuracy"] for p in run.curve if p["step"] == 1000) for run in runs["xavier"]]
    return [
        above("He, test accuracy in %", 90, percent(runs["he"])),
        below("Xavier", CHANCE, percent(runs["xavier"])),
        below("Xavier after 1,000 steps, on the validation split", CHANCE, halfway),
        below("torch's default", CHANCE, percent(runs["default"])),
    ]


def bn_mnist(settings: Settings) -> list[Figure]:
    """Three sigmoid layers of 100 with and without BatchNorm: accuracy, and how far the last sigmoids' inputs move."""
    runs = on_mnist(settings._replace(seeds=1), "papers/bn_mnist")
    x = mnist(settings)[0][:5000]
    figures = []
    for std in ("0.1", "0.01"):
        plain, batchnorm = (runs[f"{name},initialization=normal_{std}_"] for name in ("plain", "batchnorm"))
        leads = [
            min(100 * (b["val/accuracy"] - a["val/accuracy"]) for a, b in zip(one.curve, other.curve, strict=True))
            for one, other in zip(plain, batchnorm, strict=True)
        ]
        checkpoints = len(plain[0].curve)
        figures += [
            above(f"std {std}, BatchNorm's least lead at {checkpoints} checkpoints, points of accuracy", 0, leads),
            below(f"std {std}, plain, test accuracy in %", fmean(percent(batchnorm)), percent(plain), ", BatchNorm's"),
        ]
        (shifts, growths), (bn_shifts, bn_growths) = (
            zip(*(_moved(run, x) for run in found), strict=True) for found in (plain, batchnorm)
        )
        what = f"std {std}, inputs of plain's last sigmoids from step 1,000 to the end"
        figures += [
            above(f"{what}, shift of the median, in widths", max(bn_shifts), shifts, ", BatchNorm's"),
            above(f"{what}, growth of the width", max(bn_growths), growths, ", BatchNorm's"),
        ]
    return figures


def _moved(run: Run, x: Tensor) -> tuple[float, float]:
    """How the input of the last hidden sigmoids is distributed over x, early and at the end: shift and growth.

    The width of a unit's distribution is its 85th percentile less its 15th. The shift is that of the 50th, in means of
    the two widths, and the growth the later width over the earlier one. Both are means over units.
    """
    percentiles = torch.stack([_percentiles(run.folder / "checkpoints" / name, x) for name in ("early.ckpt", LAST)])
    low, median, high = percentiles.unbind(1)
    width = high - low
    shift = (median[1] - median[0]).abs() / width.mean(0)
    return float(shift.mean()), float((width[1] / width[0]).mean())


@torch.no_grad()
def _percentiles(checkpoint: Path, x: Tensor) -> Tensor:
    """The 15th, 50th and 85th (3, units) of what the last hidden activation is given."""
    *before, last = MLP.load_from_checkpoint(checkpoint, map_location="cpu").eval().hidden
    z = last.get_submodule("normalization")(last.get_submodule("linear")(nn.Sequential(*before)(x.flatten(1))))
    return torch.quantile(z, torch.tensor([0.15, 0.50, 0.85]), dim=0)


#: Millions of parameters by number of layers (He et al. 2016, Table 6).
PRINTED = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}


def degradation(settings: Settings) -> list[Figure]:
    """Plain and residual networks: their size, their gradient at initialization, their loss after 300 steps."""
    figures = []
    for num_layers, printed in PRINTED.items():
        millions = sum(p.numel() for p in CNN((3, 32, 32), 10, num_layers).parameters()) / 1e6
        figures.append(
            Figure(f"ResNet-{num_layers}, million parameters", printed, [millions], f"{millions:.2g}" == printed)
        )
    plain, resnet = [], []
    for _ in seeds(settings):
        plain.append(_first_over_last(residual=False))
        resnet.append(_first_over_last(residual=True))
    what = "squared gradient at the start, first over last convolution"
    figures.append(above(f"{what}: plain-56", 1000 * max(resnet), plain, ", 1000 times ResNet-56's"))
    figures.append(below(f"{what}: ResNet-56", min(plain) / 1000, resnet, ", a thousandth of plain-56's"))
    runs = on_mnist(settings, "papers/degradation")
    start, second, tenth = zip(*map(_first_over_last_in_training, runs["plain,num_layers=56"]), strict=True)
    what = "squared gradient in training, first over last layer: plain-56"
    figures += [
        above(f"{what}, step 0", 1000, start),
        below(f"{what}, step 1", min(start) / 1000, second, ", a thousandth of step 0's"),
        below(f"{what}, step 9", 1, tenth),
    ]
    losses = {name: [*map(last_loss, found)] for name, found in runs.items()}
    shallow, deep = losses["plain,num_layers=20"], losses["plain,num_layers=56"]
    ratios = [b / a for a, b in zip(shallow, deep, strict=True)]
    figures.append(above(f"training loss of plain-56 over that of plain-20, {fmean(shallow):.3f}", 10, ratios))
    for num_layers in (20, 56):
        resnet_loss, limit = losses[f"resnet,num_layers={num_layers}"], min(losses[f"plain,num_layers={num_layers}"])
        figures.append(below(f"training loss of ResNet-{num_layers}", limit, resnet_loss, f", plain-{num_layers}'s"))
    return figures


def _first_over_last(*, residual: bool) -> float:
    """|delta|^2 of the first convolution over that of the last, of a new network of 56 layers."""
    norms = deltas(CNN((1, 14, 14), 10, 56, residual=residual), torch.randn(64, 1, 14, 14))
    return (norms[0] / norms[-2]) ** 2  # the last layer is linear


def _first_over_last_in_training(run: Run) -> list[float]:
    """|delta|^2 of the first layer over that of the last, in the steps 0, 1 and 9, as TensorBoard shows them."""
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0})  # all of them
    events.Reload()
    ratios = {event.step: event.value for event in events.Scalars("Overview/first_over_last_log10")}
    return [10 ** (2 * ratios[step]) for step in (0, 1, 9)]


def last_loss(run: Run, steps: int = 20) -> float:
    """The mean training loss of the last steps."""
    with (run.folder / "metrics.csv").open(encoding="utf-8") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    return fmean(losses[-steps:])


def adding(settings: Settings) -> list[Figure]:
    """The adding problem over 100 steps, by cell: the mean squared error on new sequences."""
    runs = compared(settings, "papers/adding")
    errors = {cell: [run.test**2 for run in found] for cell, found in runs.items()}
    return [
        near("tanh RNN, squared error", 1 / 6, errors["rnn"], 0.01),
        below("LSTM", 0.01, errors["lstm"]),
        below("GRU", 0.01, errors["gru"]),
    ]


def keras_mlp(settings: Settings) -> list[Figure]:
    """Two layers of 512 with dropout, 20 epochs of RMSprop on all 60,000 images."""
    (runs,) = on_mnist(settings, "papers/keras_mlp").values()
    return [near("test accuracy in %", 98.4, percent(runs), 0.2)]


def nanogpt_cpu(settings: Settings) -> list[Figure]:
    """2,000 steps of the recipe transformer/text on tiny Shakespeare: the loss on the last tenth of it.

    Raises:
        FileNotFoundError: The text is absent.
    """
    text = settings.root / "tinyshakespeare.txt"
    if not text.is_file():
        raise FileNotFoundError(f"no file {text}")
    (runs,) = compared(settings, "transformer/text", f"--data.path={text}").values()
    losses = [run.curve[-1]["val/loss"] for run in runs]
    return [Figure("validation loss", "<= 1.88", losses, fmean(losses) <= 1.88)]


ROWS = [
    Row(
        "trainable_depth",
        "a tanh network of 60 layers trains only where its depth is under about 6 xi",
        "Schoenholz et al. 2017, Fig. 5",
        "second hand",
        trainable_depth,
        "The rule of 6 xi is soft, and about a given number of steps; these are 600. xi is that of an infinite width.",
    ),
    Row(
        "he_30_layers",
        "30 ReLU layers: He's initialization learns, Xavier's stalls",
        "He et al. 2015, Fig. 3",
        "read in part",
        he_30_layers,
        "Theirs is a convolutional network on ImageNet; ours an MLP of 128 units a layer, 2,000 steps on MNIST, with "
        "twice as many seeds. Xavier's stall need not last here: at the start the first layer's gradient is a few "
        "1e-5 of the last one's, but it grows in training, and with some seeds the network begins to learn after "
        "1,000 steps. With torch's default it stays at 2e-12.",
    ),
    Row(
        "bn_mnist",
        "BatchNorm before each of three layers of 100 sigmoids learns faster and ends higher; their inputs stay more "
        "stable",
        "Ioffe and Szegedy 2015, 4.1, Fig. 1",
        "read",
        bn_mnist,
        "One seed, whatever --seeds says, for a run has 50,000 steps; the recipe's head has the accuracies of three. "
        "The paper gives no learning rate, ours is 0.1; a third party who repeated it has 97.5 to 97.7 % without and "
        "97.8 to 98.0 % with BatchNorm. Checkpoints are judged on 6,000 images kept back from training. The inputs are "
        "those of the 100 last sigmoids for 5,000 images; their widths go from the 15th to the 85th percentile, as in "
        "Fig. 1b and c.",
    ),
    Row(
        "degradation",
        "sizes of ResNets; a plain network of 56 layers trains worse than one of 20, and than a residual one of 56",
        "He et al. 2016, 4.2, Table 6, Fig. 6",
        "read",
        degradation,
        "The paper trains 64,000 steps on CIFAR-10; this is 300 steps on MNIST of 14x14 pixels, the loss a mean of "
        "the last 20. After so few steps ResNet-56 is still behind ResNet-20. The gradient of plain-56 explodes at "
        "initialization alone. L2 is on weights, not on BatchNorm's.",
    ),
    Row(
        "adding",
        "adding problem, 100 steps: a tanh RNN stays at the error of a constant prediction, LSTM and GRU solve it",
        "Hochreiter and Schmidhuber 1997, Cho et al. 2014; the constant's error is exactly 1/6",
        "derived",
        adding,
        "A run ends where its error on other sequences is below 0.0025, after 4,000 steps at the latest: 2,500 were "
        "too few for one LSTM of three, which had come to 0.012. An error of 0.1767, which is often copied as that of "
        "the constant, is wrong.",
    ),
    Row(
        "keras_mlp",
        "Keras' mnist_mlp.py: test accuracy after 20 epochs",
        "the head of that file",
        "read",
        keras_mlp,
        "At 98.4 % the test noise of 10,000 images is 0.13 points.",
    ),
    Row(
        "nanogpt_cpu",
        "a character model of tiny Shakespeare, 2,000 steps in about 3 minutes of CPU",
        "nanoGPT's README",
        "read",
        nanogpt_cpu,
        "Ours has nanoGPT's sizes, batches and steps, but twice its learning rate, which falls to 0. It is the loss of "
        "the whole validation split, nanoGPT's an estimate from 20 batches.",
    ),
]
