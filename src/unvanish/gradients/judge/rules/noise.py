"""Gradients of which nearly all is noise of the batch."""

import math
from collections.abc import Iterator
from statistics import fmean, stdev

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.noise import NOISE_BATCH, NOISE_SIGNAL, NOISE_VARIANCE

#: Records that it takes: the signal is a small difference of two large numbers.
RECORDS = 8
#: Of a batch that is so many times smaller than the noise scale, a third of the gradient's square is signal at most.
TIMES = 2


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    totals = [record.totals for record in seen.sound if NOISE_SIGNAL.name in record.totals]
    if seen.is_early or len(totals) < RECORDS or not seen.is_stuck:
        return
    batch = fmean(t[NOISE_BATCH.name] for t in totals)
    signals = [t[NOISE_SIGNAL.name] for t in totals]
    # What is called noise has to be so at the upper end of what the signal may be.
    signal = fmean(signals) + 2 * stdev(signals) / math.sqrt(len(signals))
    scale = fmean(t[NOISE_VARIANCE.name] for t in totals) / signal if signal > 0 else math.inf
    if scale > TIMES * batch:
        at_least = f"at least {scale:.2g}" if math.isfinite(scale) else "beyond measure"
        yield rule.found(f"the gradient noise scale is {at_least} samples, and a batch has {batch:.0f}")


NOISE = Rule(
    name="gradients that are mostly noise",
    about=("labels", "learning_rate", "optimizer"),
    cause="the gradient of a batch says almost nothing about the gradient over all data.",
    remedies=("larger or accumulated batches", "a lower learning rate", "a look at some inputs with their targets"),
    look=_look,
    source="tr(Sigma) / |G|^2 (McCandlish et al. 2018): below it, twice the batch is worth twice the steps",
    near="a network that has learnt its data, whose noise scale grows beyond all bounds by right",
)
