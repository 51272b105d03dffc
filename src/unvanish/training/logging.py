"""When and how the numbers of a batch are logged.

``LightningModule.log`` takes as long as a small network's step, whether or not that step is written.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def log_batch(trainer: Any, numbers: Mapping[str, Tensor]) -> None:
    """Pass a batch's numbers, as means over the processes, to the loggers at their steps, and to callbacks and
    progress bars then, before a validation and at the end of an epoch.

    Called after the batch.
    """
    epoch, interval = trainer.fit_loop.epoch_loop, trainer.log_every_n_steps
    is_written = (
        (interval > 0 and (epoch._batches_that_stepped + 1) % interval == 0)
        or trainer.should_stop
        or trainer.fast_dev_run
    )
    if not (is_written or epoch._is_training_done or _may_validate(trainer)):
        return
    found = {name: trainer.strategy.reduce(value.clone(), reduce_op="mean") for name, value in numbers.items()}
    trainer.callback_metrics.update(found)
    trainer.progress_bar_metrics.update({name: value.item() for name, value in found.items()})
    if is_written and not epoch._should_accumulate():
        trainer._logger_connector.log_metrics(found)


def _may_validate(trainer: Any) -> bool:
    """Whether a validation may follow; if it depends on time alone, another process may be due."""
    epoch = trainer.fit_loop.epoch_loop
    by_time = trainer._val_check_time_interval is not None
    return bool(by_time or epoch._should_check_val_fx(trainer.fit_loop._data_fetcher))
