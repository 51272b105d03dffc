"""The gradient noise scale, tr(Sigma) / |G|^2 in samples: how large a batch is worth its while.

From the gradients of micro-batches or ranks beside that of the whole batch (McCandlish et al. 2018, appendix A.1).
"""

from collections.abc import Mapping

from unvanish.gradients.quantities.gradient import GRADIENT
from unvanish.gradients.quantities.quantity import Field, Reduction, Scale

#: dL/dW of one micro-batch on one rank, and how many of them there were.
SMALL_BATCH, SMALL_BATCHES = Field(Reduction.NORM, Scale.LOSS, is_share=True), Field(is_share=True)


def noise_scale(small_square: float, big_square: float, small_batch: float, big_batch: float) -> tuple[float, float]:
    """tr(Sigma) and |G|^2 from gradients of two batch sizes.

    Both are unbiased, their ratio, the gradient noise scale, is not: average each over steps before dividing.

    Args:
        small_square: Mean of |gradient|^2 over small batches.
        big_square: |gradient|^2 of the big batch.
        small_batch: Samples in a small batch.
        big_batch: Samples in the big batch.
    """
    signal = (big_batch * big_square - small_batch * small_square) / (big_batch - small_batch)
    variance = (small_square - big_square) / (1 / small_batch - 1 / big_batch)
    return variance, signal


def noise(columns: Mapping[Field, Mapping[str, float]], batch_size: int | None, ranks: int) -> dict[str, float]:
    """noise_variance, noise_signal and noise_batch of a step, where all layers have seen the same two micro-batches.

    Or more of them; noise_batch are the samples of all.

    Args:
        columns: Each field by layer.
        batch_size: Samples in a micro-batch on one rank.
        ranks: How many have shared the batch: their gradients are averaged, those of micro-batches added.
    """
    layers = [name for name in columns[GRADIENT] if name] if GRADIENT in columns else []
    passes = {columns[SMALL_BATCHES].get(name, 0) for name in layers}
    if batch_size is None or len(passes) != 1 or (count := passes.pop()) <= 1:
        return {}
    variance, signal = noise_scale(
        (count / ranks) ** 2 * sum(columns[SMALL_BATCH][name] ** 2 for name in layers) / count,
        sum(columns[GRADIENT][name] ** 2 for name in layers),
        batch_size,
        batch_size * count,
    )
    return {"noise_variance": variance, "noise_signal": signal, "noise_batch": batch_size * count}
