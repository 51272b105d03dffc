"""When the numbers of a batch are logged."""

import lightning as L


def is_read(trainer: L.Trainer) -> bool:
    """Whether anybody reads what this batch has brought: the loggers, a validation after it, or an epoch's end.

    Asked when the batch is over.
    """
    epoch, fetcher, connector = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher, trainer._logger_connector
    assert fetcher is not None
    return bool(
        connector.should_update_logs
        or trainer.fast_dev_run  # type: ignore[attr-defined]
        or epoch._is_training_done
        or epoch._should_check_val_fx(fetcher)
    )
