"""The LightningModule from which every network derives."""

import math

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from unvanish.training.config import Training
from unvanish.training.metrics import build_metrics
from unvanish.training.regularization import weights_of


class ReferenceModule(L.LightningModule):
    """Loss, penalties, metrics and optimizer for a network that defines ``__init__`` and ``forward(x) -> logits``.

    Args:
        training: The shared training configuration; the last argument of every network.

    Raises:
        ValueError: a name, a number or a combination in ``training`` is wrong.
    """

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # those of the network: Lightning reads them from the calling frames
        self.settings = training
        smoothing = training.regularization.label_smoothing
        self.training_loss = training.loss.build(training.task, smoothing)
        self.loss = training.loss.build(training.task)
        self.val_metrics = build_metrics(training.task, "val/")
        self.test_metrics = build_metrics(training.task, "test/")
        self.total_steps = 1  # of the optimizer; known when training starts, and the schedules' first factor needs none

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of a batch (x, y), penalties included."""
        x, y = batch
        loss: Tensor = self.training_loss(self(x), y)
        self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=True)
        if self.settings.regularization.has_penalty:
            penalty = self.settings.regularization.penalty(weights_of(self))
            self.log("train/penalty", penalty.detach())
            loss = loss + penalty
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(self.val_metrics, *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate(self.test_metrics, *batch)

    def _evaluate(self, metrics: MetricCollection, x: Tensor, y: Tensor) -> None:
        logits = self(x)
        self.log(f"{metrics.prefix}loss", self.loss(logits, y), batch_size=len(x), sync_dist=True)
        metrics.update(*self._in_units(logits, y))
        self.log_dict(metrics, batch_size=len(x), prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """Log what the data gives to compare with."""
        self._log_baselines("val")

    def on_test_epoch_end(self) -> None:
        """Log what the data gives to compare with."""
        self._log_baselines("test")

    def _log_baselines(self, stage: str) -> None:
        baselines = getattr(getattr(self.trainer, "datamodule", None), "baselines", {})
        self.log_dict({f"{stage}/{name}": value for name, value in baselines.get(stage, {}).items()})

    def _in_units(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Targets that the data standardised go back to their units, so that an error reads in them."""
        scale = getattr(getattr(self.trainer, "datamodule", None), "target_std", None)
        return (logits, y) if scale is None else (logits * scale.to(logits), y * scale.to(y))

    def predict_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """Probabilities for the classification tasks, the network's output for regression."""
        logits: Tensor = self(batch[0])
        if self.settings.task == "regression":
            return logits
        return logits.sigmoid() if self.settings.task == "binary" else logits.softmax(dim=-1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a scheduler where the learning rate changes."""
        regularization, schedule = self.settings.regularization, self.settings.schedule
        optimizer = self.settings.optimizer.build(self, regularization.weight_decay)
        if regularization.max_norm is not None:
            optimizer.register_step_post_hook(lambda *_: regularization.constrain(weights_of(self)))
        if schedule.is_constant:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": LambdaLR(optimizer, lambda step: schedule.factor(step, self.total_steps)),
                "interval": "step",
                "name": "train/learning_rate",
            },
        }

    def on_train_start(self) -> None:
        """Ask how long the run is, for a schedule.

        Asked any earlier, the trainer would load the data before it restores a checkpoint, and a resumed loader would
        begin its epoch anew (Lightning#20550).
        """
        if self.settings.schedule.is_constant:
            return
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(f"schedule {self.settings.schedule.name!r} needs an end: say max_epochs or max_steps")
        self.total_steps = int(steps)
