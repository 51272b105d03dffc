"""Laws of residual streams at initialization."""

import math
from statistics import fmean, geometric_mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.papers.figures import near, near_factor, seeds
from benchmarks.papers.row import Figure, Row, Settings
from unvanish import GradientRecorder, Training, Transformer
from unvanish.formulas.residual import residual
from unvanish.networks.initialization import initialize
from unvanish.networks.normalization import build_normalization

BLOCKS = 24
NAMES = {"none": "no normalization", "batch": "BatchNorm", "layer": "LayerNorm"}


def residual_growth(settings: Settings) -> list[Figure]:
    """x + W2 relu(W1 normalization(x)), 24 times: how the variance of x, and the squared gradient, grow."""
    draws = {"none": 30, "batch": 2, "layer": 2}  # what doubles 24 times spreads by a third from draw to draw
    variances: dict[str, list[float]] = {name: [] for name in NAMES}
    gradients: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in seeds(settings):
        for name, count in draws.items():
            growths = [_growth(name, width=512, batch=64 if name == "none" else 256) for _ in range(count)]
            variances[name].append(fmean(variance for variance, _ in growths))
            gradients[name].append(fmean(gradient for _, gradient in growths))
    branch = 1 - 1 / math.pi  # of the squared gradient, what BatchNorm and ReLU let pass
    bn = math.prod(1 + 1 / (1 + branch * depth) for depth in range(BLOCKS))
    forward = {"none": 2.0**BLOCKS, "batch": BLOCKS + 1, "layer": BLOCKS + 1}
    backward = {"none": 2.0**BLOCKS, "batch": bn, "layer": BLOCKS + 1}
    return [
        *(near_factor(f"variance, {NAMES[name]}", forward[name], variances[name], 0.1) for name in NAMES),
        *(near_factor(f"squared gradient, {NAMES[name]}", backward[name], gradients[name], 0.1) for name in NAMES),
    ]


def _branch(normalization: str, width: int) -> nn.Sequential:
    """W2 relu(W1 normalization(x)), W1 ~ N(0, 2/n), W2 ~ N(0, 1/n), so that it has the variance of what it reads."""
    first, second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
    initialize(first, "he_normal", "relu")
    initialize(second, "mean_field(1, 0)", "identity")
    return nn.Sequential(build_normalization(normalization, width), first, nn.ReLU(), second)


def _growth(normalization: str, width: int, batch: int) -> tuple[float, float]:
    """The factors of the mean square of x, from first to last, and of the squared gradient, from last to first."""
    x = first = torch.randn(batch, width, requires_grad=True)
    for _ in range(BLOCKS):
        x = residual(x, _branch(normalization, width))
    v = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((x * v).sum(), [first])
    return _mean_square(x) / _mean_square(first), _mean_square(gradient) / _mean_square(v)


def _mean_square(x: Tensor) -> float:
    return float(x.detach().double().square().mean())


DEPTHS, WIDTH, SENTENCES, TOKENS, WORDS = (2, 6, 12, 24), 256, 8, 32, 1024


def pre_post_ln(settings: Settings) -> list[Figure]:
    """|dL/dW2| of the last block, by the number of blocks; and the square of what post-LN normalizes behind it."""
    ratios, slopes, squares = [], [], []
    for _ in seeds(settings):
        post = [_last_block(depth, norm_first=False) for depth in DEPTHS]
        pre = [_last_block(depth, norm_first=True) for depth in DEPTHS]
        norms = [norm for norm, _ in post]
        ratios.append(max(norms) / min(norms))
        slopes.append(float(np.polyfit(np.log(DEPTHS), [math.log(norm) for norm, _ in pre], 1)[0]))
        squares.append(geometric_mean(square for _, square in post))
    return [
        Figure("post-LN, largest over smallest of 2 to 24 blocks", "< 1.3", ratios, max(ratios) < 1.3),
        near("pre-LN, exponent of the depth", -0.48, slopes, 0.08),
        near("post-LN, square behind the residual, over d", 1.5, squares, 0.08),
    ]


def _last_block(depth: int, norm_first: bool) -> tuple[float, float]:
    """|dL/dW2| of the last feed-forward network, and the mean square of the sum that it is added to."""
    count = SENTENCES * TOKENS
    model = Transformer(
        (TOKENS,),
        WORDS,
        WIDTH,
        depth,
        num_heads=1,
        feedforward_dim=WIDTH,
        vocabulary_size=WORDS,
        positions="rotary",  # which add nothing, and turn queries and keys of 0
        activation="relu",
        initialization="xavier_normal",
        norm_first=norm_first,
        training=Training(task="next_token"),
    )
    with torch.no_grad():
        model.get_parameter("embedding.weight").normal_()
        for index in range(depth):
            model.get_parameter(f"blocks.{index}.attention.qkv.weight")[: 2 * WIDTH] = (
                0  # each token attends to all before it alike
            )
    sums: list[Tensor] = []
    norm = model.get_submodule(f"blocks.{depth - 1}.feedforward_norm")
    norm.register_forward_pre_hook(lambda _, x: sums.append(x[0]))
    tokens = torch.arange(count).view(SENTENCES, TOKENS)  # no token comes twice, so all embeddings are independent
    with GradientRecorder(model) as recorder:
        z = model(tokens)
        torch.autograd.backward(F.cross_entropy(z.flatten(0, 1), torch.randint(WORDS, (count,))))
        recorder.before_step(0)
        (record,) = recorder.flush()
    return record.values["gradient_norm"][f"blocks.{depth - 1}.contraction"], _mean_square(sums[0])


ROWS = [
    Row(
        "residual_growth",
        "variance of a residual stream after l blocks: 2^l, l + 1 with a norm; squared gradient over 24 blocks",
        "De and Smith 2020; the product for BatchNorm derived",
        "second hand",
        residual_growth,
        "Batches of 256; without normalization, where draws spread by a third, means of 30 draws with batches of 64.",
        is_quick=True,
    ),
    Row(
        "pre_post_ln",
        "gradient of the last feed-forward matrix: post-LN flat in depth, pre-LN about L^-1/2",
        "Xiong et al. 2020, Theorem 1 and Lemma 2",
        "read",
        pre_post_ln,
        "Attention is causal: a token sees the mean of those up to it. Of 1,024 words. Of 256, as many as there are "
        "tokens, post-LN's grows from 0.62 to 0.82 between 2 and 24 blocks: tokens that attend alike become alike, and "
        "the mean of their errors, which is not random, weighs in.",
        is_quick=True,
    ),
]
