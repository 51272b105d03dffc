"""The gradient noise scale, tr(Sigma) / |G|^2 in samples: the batch size beyond which larger batches help little.

From the gradients of micro-batches or ranks beside that of the whole batch (McCandlish et al. 2018, appendix A.1).
"""

from unvanish.gradients.quantities.gradient import GRADIENT
from unvanish.gradients.quantities.quantity import Batch, Columns, Field, Reduction, Scale, Total

#: dL/dW of one micro-batch on one rank, and the number of micro-batches.
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


def _noise(columns: Columns, batch: Batch) -> tuple[float, float, int] | None:
    """tr(Sigma), |G|^2 and the samples of a step, if all layers have seen the same micro-batches, at least two.

    Gradients of ranks are averaged, those of micro-batches added.
    """
    if batch.size is None or SMALL_BATCHES not in columns or GRADIENT not in columns:
        return None
    layers = [name for name in columns[GRADIENT] if name]
    passes = {columns[SMALL_BATCHES].get(name, 0) for name in layers}
    if len(passes) != 1 or (count := int(passes.pop())) <= 1:
        return None
    variance, signal = noise_scale(
        (count / batch.ranks) ** 2 * sum(columns[SMALL_BATCH][name] ** 2 for name in layers) / count,
        sum(columns[GRADIENT][name] ** 2 for name in layers),
        batch.size,
        batch.size * count,
    )
    return variance, signal, batch.size * count


def _total(name: str, place: int) -> Total:
    return Total(name, lambda columns, batch: None if (found := _noise(columns, batch)) is None else found[place])


NOISE_VARIANCE, NOISE_SIGNAL, NOISE_BATCH = (
    _total(name, place) for place, name in enumerate(("noise_variance", "noise_signal", "noise_batch"))
)
