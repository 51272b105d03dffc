"""The LightningModule that every network derives from."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from unvanish.bounds import check_bounds
from unvanish.training.class_weights import weights_of_classes
from unvanish.training.config import Training
from unvanish.training.evaluation import CONSTANT, Evaluation, Scores
from unvanish.training.logging import log_batch
from unvanish.training.metrics import Objective, objective
from unvanish.training.regularization import weights_of
from unvanish.training.sharding import FullySharded

#: The checkpoint's keys for the network's class, and for what it must know of the data.
NETWORK, DATA = "unvanish_network", "unvanish_data"


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
        check_bounds(type(self), self.hparams)
        self.settings = training
        smoothing = training.regularization.label_smoothing
        self.training_loss = training.loss.build(training.task, smoothing)
        self.loss = training.loss.build(training.task)
        # Lightning's own mean takes the mean of the processes' numbers of samples for a whole number.
        self.mean_loss = MeanMetric(nan_strategy=math.nan)  # else NaN would be left out of the mean
        #: The result of the last validation or test.
        self.scores: Scores | None = None
        #: ``train/loss`` of the last batch, penalties left out, and ``train/penalty`` where there are any.
        self.last_batch: dict[str, Tensor] = {}
        self._evaluation: Evaluation | None = None
        self.total_steps = 1  # of the optimizer; known when training starts, and the schedules' first factor needs none

    def logits_of(self, outputs: Tensor) -> Tensor:
        """Outputs (B, C) as the task's logits: (B,) for a binary task, and unchanged for the others."""
        return outputs.squeeze(-1) if self.settings.task == "binary" and outputs.dim() > 1 else outputs

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of a batch (x, y), penalties included."""
        x, y = batch
        loss: Tensor = self.training_loss(self(x), y)
        self.last_batch["train/loss"] = loss.detach()
        if self.settings.regularization.has_penalty:
            penalty = self.settings.regularization.penalty(weights_of(self))
            self.last_batch["train/penalty"] = penalty.detach()
            loss = loss + penalty
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Log the batch's numbers, if anything reads them."""
        log_batch(self.trainer, self.last_batch)

    @property
    def objective(self) -> Objective:
        """The metric by which this network's checkpoints are compared."""
        return objective(self.settings.task, self.settings.select_by)

    def setup(self, stage: str) -> None:
        """Read the class weights; Lightning calls this before a run."""
        if stage == "fit":
            self.weigh_classes(getattr(self.trainer, "datamodule", None))

    def weigh_classes(self, data: Any) -> None:
        """Give the training loss the class weights of ``training.class_weights``.

        Raises:
            ValueError: they do not fit the data module, or it does not say how many samples each class has.
        """
        if (wanted := self.settings.class_weights) is not None:
            smoothing = self.settings.regularization.label_smoothing
            weights = weights_of_classes(wanted, data)
            self.training_loss = self.settings.loss.build(self.settings.task, smoothing, weights)

    def configure_model(self) -> None:
        """Shard the weights over the processes, if the strategy does so; Lightning calls this before each run."""
        strategy = getattr(self._trainer, "strategy", None)  # a checkpoint that is loaded has no trainer
        if isinstance(strategy, FullySharded):
            strategy.shard(self)

    def configure_callbacks(self) -> list[L.Callback]:
        """The early-stopping callback, if configured; it leaves non-finite losses to other checks."""
        if self.settings.early_stopping is None:
            return []
        metric, mode = self.objective
        return [EarlyStopping(f"val/{metric}", patience=self.settings.early_stopping, mode=mode, check_finite=False)]

    def on_validation_epoch_start(self) -> None:
        """Start collecting predictions."""
        self._begin(is_whole=False)

    def on_test_epoch_start(self) -> None:
        """Start collecting predictions."""
        self._begin(is_whole=True)

    def _begin(self, *, is_whole: bool) -> None:
        task = self.settings.task
        self._evaluation = Evaluation(task, self.settings.loss.name_for(task), self.objective.metric, is_whole=is_whole)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Collect a batch."""
        self._evaluate(*batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Collect a batch."""
        self._evaluate(*batch)

    def _evaluate(self, x: Tensor, y: Tensor) -> None:
        logits = self(x)
        self.mean_loss.update(self.loss(logits, y), weight=len(x))
        assert self._evaluation is not None
        self._evaluation.update(logits, y)

    def on_validation_epoch_end(self) -> None:
        """Log the scores and their baselines."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores and their baselines."""
        self._score("test")

    def _score(self, stage: str) -> None:
        """Log the metrics; errors are in the targets' own units, also where the data standardised them."""
        assert self._evaluation is not None
        data = getattr(self.trainer, "datamodule", None)
        baselines = getattr(data, "baselines", {}).get(stage, {})
        self.scores = self._evaluation.compute(getattr(data, "target_std", None), baselines)
        self._evaluation = None
        if self.mean_loss.update_called:
            self.log(f"{stage}/loss", self.mean_loss)
        metric = self.objective.metric
        constant = {f"{metric}_{CONSTANT}": self.scores.baselines.get(CONSTANT, {}).get(metric)}
        compared = {name: value for name, value in (constant | baselines).items() if value is not None}
        self.log_dict(
            {f"{stage}/{name}": value for name, value in self.scores.values.items()}, prog_bar=True, sync_dist=True
        )
        self.log_dict({f"{stage}/{name}": value for name, value in compared.items()}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what predicting needs without the recipe and the training data: the class and the encoders."""
        kind = type(self).__mro__[2] if isinstance(self, FSDPModule) else type(self)  # FSDP2 makes a class of its own
        checkpoint[NETWORK] = f"{kind.__module__}.{kind.__qualname__}"
        # Whoever writes a checkpoint without a Trainer has none.
        if known := getattr(getattr(self._trainer, "datamodule", None), "known", None):
            checkpoint[DATA] = known

    def predict_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """Probabilities for the classification tasks, the network's output for regression."""
        logits: Tensor = self(batch[0])
        if self.settings.task == "regression":
            return logits
        return logits.sigmoid() if self.settings.task == "binary" else logits.softmax(dim=-1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a scheduler if the learning rate changes."""
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
        """Read the length of the run, for a schedule.

        Asked any earlier, the trainer would load the data before it restores a checkpoint, and a resumed loader would
        begin its epoch anew (Lightning#20550).
        """
        if self.settings.schedule.is_constant:
            return
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(f"schedule {self.settings.schedule.name!r} needs an end: say max_epochs or max_steps")
        self.total_steps = int(steps)
